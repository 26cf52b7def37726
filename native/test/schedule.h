// A deterministic scheduler. Threads are fibers; every access to an atomic first asks the scheduler who goes
// on, so a run is the list of its answers, and all runs are found by trying each answer in turn (depth first).
// A thread goes on unless it has ended or cannot; each time another is preferred costs one of a given number
// of preemptions. Explores interleavings of sequentially consistent accesses, not reorderings: those are the
// business of the orders argued for in native/README.md and of ThreadSanitizer.
#pragma once

// Fortified longjmp takes a jump to another stack for an error.
#undef _FORTIFY_SOURCE
#include <setjmp.h>
#include <ucontext.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "harness.h"

namespace schedule {

class Explorer {
 public:
  struct Result {
    uint64_t runs = 0;
    uint64_t failures = 0;
    std::string first;  // what failed first
    bool complete = true;
  };

  static Explorer*& current() {
    static Explorer* explorer = nullptr;
    return explorer;
  }

  // A script is made anew for every run: its threads, what must hold whenever a thread is about to make an
  // access, and what must hold at the end.
  struct Script {
    std::vector<std::function<void()>> threads;
    std::function<void()> always = [] {};
    std::function<void()> finally = [] {};
  };

  // `preemptions`: most per run. `runs`: gives up after so many, and says so.
  Result explore(const std::function<Script()>& make, int preemptions, uint64_t runs) {
    Result result;
    choices_.clear();
    do {
      if (result.runs == runs) {
        result.complete = false;
        return result;
      }
      ++result.runs;
      depth_ = 0;
      preemptionsLeft_ = preemptions;
      failure_.clear();
      Script script = make();
      run(script);
      if (failure_.empty()) {
        try {
          script.finally();
        } catch (const std::exception& e) {
          failure_ = e.what();
        }
      }
      if (!failure_.empty() && result.failures++ == 0) result.first = failure_;
    } while (next());
    return result;
  }

  // Called by an atomic before each access. A thread whose last access was a compare-exchange here that hoped
  // for the same value in vain is spinning: it waits until the value is there.
  void access(const void* address = nullptr, const std::function<bool()>& hopeless = nullptr) {
    if (!running_) return;
    Fiber& me = *fibers_[active_];
    if (hopeless && me.failedOn == address) me.hopeless = hopeless;
    me.failedOn = nullptr;
    if (written_) check();
    choose(false);
    me.hopeless = nullptr;
  }
  void failed(const void* address) {
    if (running_) fibers_[active_]->failedOn = address;
  }
  void written() { written_ = true; }
  // Delays an effect until the thread has made its next compare-exchange: for planting reordered stores.
  bool delay(std::function<void()> effect) {
    if (!running_) return false;
    fibers_[active_]->delayed.push_back(std::move(effect));
    return true;
  }
  void flush() {
    if (!running_) return;
    auto effects = std::move(fibers_[active_]->delayed);
    fibers_[active_]->delayed.clear();
    for (auto& effect : effects) {
      access();
      effect();
      written();
    }
  }

  // Runs without scheduling: for checks that look at the table in the middle of a run.
  template <class Fn>
  void quiet(Fn&& fn) {
    const bool was = running_;
    running_ = false;
    try {
      fn();
    } catch (...) {
      running_ = was;
      throw;
    }
    running_ = was;
  }

 private:
  static constexpr size_t kStack = 128 * 1024, kNobody = ~size_t{0};
  struct Fiber {
    ucontext_t context{};
    jmp_buf jump{};
    bool started = false;
    std::unique_ptr<char[]> stack = std::make_unique<char[]>(kStack);
    std::function<void()> body;
    std::function<bool()> hopeless;
    std::vector<std::function<void()>> delayed;
    const void* failedOn = nullptr;
    bool done = false;
  };
  struct Choice {
    uint32_t taken, options;
  };

  void run(Script& script) {
    while (fibers_.size() < script.threads.size()) fibers_.push_back(std::make_unique<Fiber>());
    count_ = script.threads.size();
    for (size_t i = 0; i < count_; ++i) {
      Fiber& f = *fibers_[i];
      f.body = script.threads[i];
      f.done = false;
      f.started = false;
      f.hopeless = nullptr;
      f.failedOn = nullptr;
      f.delayed.clear();
      getcontext(&f.context);
      f.context.uc_stack.ss_sp = f.stack.get();
      f.context.uc_stack.ss_size = kStack;
      f.context.uc_link = nullptr;
      makecontext(&f.context, &Explorer::enter, 0);
    }
    always_ = script.always;
    current() = this;
    running_ = true;
    active_ = kNobody;
    entered_ = 0;
    choose(true);
    running_ = false;
    current() = nullptr;
  }

  static void enter() {
    Explorer& self = *current();
#if defined(__SANITIZE_ADDRESS__)
    const void* bottom = nullptr;
    size_t bytes = 0;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
    // The first of a run is entered from the thread's own stack.
    if (self.entered_++ == 0) {
      self.mainBottom_ = bottom;
      self.mainBytes_ = bytes;
    }
#endif
    Fiber& me = *self.fibers_[self.active_];
    try {
      me.body();
    } catch (const std::exception& e) {
      if (self.failure_.empty()) self.failure_ = e.what();
    }
    self.flush();
    self.check();
    me.done = true;
    self.choose(true);
  }

  void check() {
    written_ = false;
    try {
      quiet([&] { always_(); });
    } catch (const std::exception& e) {
      if (failure_.empty()) failure_ = e.what();
    }
  }

  bool ready(size_t i) {
    Fiber& f = *fibers_[i];
    if (f.done) return false;
    bool stuck = false;
    if (f.hopeless) quiet([&] { stuck = f.hopeless(); });
    return !stuck;
  }

  void choose(bool ended) {
    const size_t from = active_;
    size_t options[8];
    uint32_t count = 0;
    const bool mayStay = !ended && ready(from);
    if (mayStay) options[count++] = from;
    if (!mayStay || preemptionsLeft_ > 0)
      for (size_t i = 0; i < count_; ++i)
        if (i != from && ready(i)) options[count++] = i;
    if (count == 0) {
      bool all = true;
      for (size_t i = 0; i < count_; ++i) all = all && fibers_[i]->done;
      if (!all && failure_.empty()) failure_ = "every thread waits for another";
      swap(from, kNobody);
      return;
    }
    uint32_t taken = 0;
    if (count > 1) {
      if (depth_ == choices_.size()) choices_.push_back({0, count});
      taken = choices_[depth_].taken;
      ++depth_;
    }
    if (mayStay && taken > 0) --preemptionsLeft_;
    swap(from, options[taken]);
  }

  // swapcontext saves signal masks, two system calls a switch; a jump does without.
  void swap(size_t from, size_t to) {
    if (from == to) return;
    active_ = to;
#if defined(__SANITIZE_ADDRESS__)
    // The sanitizer must be told which stack it is on.
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, to == kNobody ? mainBottom_ : fibers_[to]->stack.get(), to == kNobody ? mainBytes_ : kStack);
    swapcontext(from == kNobody ? &main_ : &fibers_[from]->context, to == kNobody ? &main_ : &fibers_[to]->context);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
    return;
#endif
    if (_setjmp(from == kNobody ? mainJump_ : fibers_[from]->jump) != 0) return;
    if (to == kNobody) _longjmp(mainJump_, 1);
    Fiber& next = *fibers_[to];
    if (next.started) _longjmp(next.jump, 1);
    next.started = true;
    setcontext(&next.context);
  }

  // The last choice that has another answer takes it; what came after it is forgotten.
  bool next() {
    while (!choices_.empty() && choices_.back().taken + 1 == choices_.back().options) choices_.pop_back();
    if (choices_.empty()) return false;
    ++choices_.back().taken;
    return true;
  }

  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Choice> choices_;
  std::function<void()> always_;
  std::string failure_;
  ucontext_t main_{};
  jmp_buf mainJump_{};
  const void* mainBottom_ = nullptr;
  size_t mainBytes_ = 0, entered_ = 0;
  size_t active_ = 0, count_ = 0, depth_ = 0;
  int preemptionsLeft_ = 0;
  bool running_ = false, written_ = false;
};

inline void pause(const void* address = nullptr, const std::function<bool()>& hopeless = nullptr) {
  if (Explorer* explorer = Explorer::current()) explorer->access(address, hopeless);
}

// The faithful atomic: one access, one step.
template <class V>
class Stepped {
 public:
  V load(std::memory_order = std::memory_order_seq_cst) const {
    pause();
    return value_;
  }
  void store(V v, std::memory_order = std::memory_order_seq_cst) {
    pause();
    write(v);
  }
  bool compare_exchange_strong(V& expected, V wanted, std::memory_order, std::memory_order) {
    const V hoped = expected;
    pause(this, [this, hoped] { return value_ != hoped; });
    if (value_ == expected) {
      write(wanted);
      return true;
    }
    expected = value_;
    if (Explorer* explorer = Explorer::current()) explorer->failed(this);
    return false;
  }
  bool compare_exchange_weak(V& expected, V wanted, std::memory_order a, std::memory_order b) {
    return compare_exchange_strong(expected, wanted, a, b);
  }
  V fetch_add(V v, std::memory_order = std::memory_order_seq_cst) { return change([v](uint64_t old) { return old + static_cast<uint64_t>(v); }); }
  V fetch_sub(V v, std::memory_order = std::memory_order_seq_cst) { return change([v](uint64_t old) { return old - static_cast<uint64_t>(v); }); }
  V fetch_or(V v, std::memory_order = std::memory_order_seq_cst) { return change([v](uint64_t old) { return old | static_cast<uint64_t>(v); }); }
  V fetch_and(V v, std::memory_order = std::memory_order_seq_cst) { return change([v](uint64_t old) { return old & static_cast<uint64_t>(v); }); }

 protected:
  void write(V v) {
    value_ = v;
    if (Explorer* explorer = Explorer::current()) explorer->written();
  }
  template <class Fn>
  V change(Fn&& fn) {
    pause();
    const V old = value_;
    write(static_cast<V>(fn(static_cast<uint64_t>(old))));
    return old;
  }

  V value_{};
};

// ---- planted bugs: what the explorer must find ---------------------------------------------------------

// Compare-exchange as a reading and a writing with a gap between them.
template <class V>
class Torn : public Stepped<V> {
 public:
  bool compare_exchange_strong(V& expected, V wanted, std::memory_order, std::memory_order) {
    pause();
    if (this->value_ != expected) {
      expected = this->value_;
      return false;
    }
    pause();
    this->write(wanted);
    return true;
  }
  bool compare_exchange_weak(V& expected, V wanted, std::memory_order a, std::memory_order b) {
    return compare_exchange_strong(expected, wanted, a, b);
  }
};

// What was stored before a compare-exchange becomes visible only after it.
template <class V>
class Reordered : public Stepped<V> {
 public:
  void store(V v, std::memory_order order = std::memory_order_seq_cst) {
    pause();
    Explorer* explorer = Explorer::current();
    // Not what ends a lock: that must not wait for a compare-exchange that never comes.
    if (order != std::memory_order_release || v == V{} || !explorer || !explorer->delay([this, v] { this->write(v); })) this->write(v);
  }
  bool compare_exchange_strong(V& expected, V wanted, std::memory_order a, std::memory_order b) {
    const bool swapped = Stepped<V>::compare_exchange_strong(expected, wanted, a, b);
    if (Explorer* explorer = Explorer::current()) explorer->flush();
    return swapped;
  }
  bool compare_exchange_weak(V& expected, V wanted, std::memory_order a, std::memory_order b) {
    return compare_exchange_strong(expected, wanted, a, b);
  }
};

// Not a bug but a processor's right: a flag that is raised with less than sequential consistency is seen by nobody else for
// as long as a script takes.
template <class V>
class Late : public Stepped<V> {
 public:
  void store(V v, std::memory_order order = std::memory_order_seq_cst) {
    pause();
    if (order == std::memory_order_seq_cst || v != V{1} || !Explorer::current()) this->write(v);
  }
};

// A compare-exchange that does not look at a word's epoch.
template <class V>
class Epochless : public Stepped<V> {
 public:
  bool compare_exchange_strong(V& expected, V wanted, std::memory_order a, std::memory_order b) {
    if (static_cast<uint64_t>(this->value_) > 0xff && (static_cast<uint64_t>(this->value_) >> 8) == (static_cast<uint64_t>(expected) >> 8)) expected = this->value_;
    return Stepped<V>::compare_exchange_strong(expected, wanted, a, b);
  }
  bool compare_exchange_weak(V& expected, V wanted, std::memory_order a, std::memory_order b) {
    return compare_exchange_strong(expected, wanted, a, b);
  }
};

}  // namespace schedule
