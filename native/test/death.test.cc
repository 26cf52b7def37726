// A writer dies at every access to memory it makes, one after the other; the next writer finds its lock, and what it
// left must obey the laws. The writer is a forked process over shared memory, as in a region opened by name.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <new>
#include <set>

#include "harness.h"
#include "table.h"

using namespace foretoken;

namespace {

// Accesses left until this process dies; below 0 it does not.
long livesLeft = -1;
void live() {
  if (livesLeft >= 0 && livesLeft-- == 0) _exit(9);
}

// An atomic that may be its process's last.
template <class T>
struct Mortal {
  std::atomic<T> value{};
  T load(std::memory_order order) const { return live(), value.load(order); }
  void store(T to, std::memory_order order) { live(), value.store(to, order); }
  T fetch_add(T by, std::memory_order order) { return live(), value.fetch_add(by, order); }
  T fetch_sub(T by, std::memory_order order) { return live(), value.fetch_sub(by, order); }
  T fetch_or(T bits, std::memory_order order) { return live(), value.fetch_or(bits, order); }
  T fetch_and(T bits, std::memory_order order) { return live(), value.fetch_and(bits, order); }
  bool compare_exchange_weak(T& seen, T to, std::memory_order yes, std::memory_order no) { return live(), value.compare_exchange_strong(seen, to, yes, no); }
  bool compare_exchange_strong(T& seen, T to, std::memory_order yes, std::memory_order no) { return live(), value.compare_exchange_strong(seen, to, yes, no); }
};

using Tab = Table<Mortal>;
constexpr uint32_t kCapacity = 6;
constexpr uint64_t kSecond = kNsPerSec;
constexpr uint64_t kRate = 1000, kBurst = 600;
constexpr uint64_t kWriter = 1, kNext = 2;

// What a region maps, without a file.
struct Memory {
  Header<Mortal> header;
  Bucket<Mortal> buckets[kCapacity + 1];
  Tally<Mortal> tallies[kCapacity + 1];
  Completion<Mortal> completions[kCapacity + 1];
  Bucket<Mortal> limits[kCapacity + 1];
  Line<Mortal> lines[kCapacity + 1];
  Mortal<uint64_t> tickets[kSeats * (kCapacity + 1)];
  Lane<Mortal> lanes[kLanes * (kCapacity + 1)];
  Mortal<uint64_t> leases[kLanes * (kCapacity + 1)];
  Uncharged<Mortal> uncharged[kCapacity + 1];
  uint64_t nowNs;
  uint64_t spent;  // from leases, by the process that dies
  Slot slots[3];
};

class World {
 public:
  World() : memory_(mmap(nullptr, sizeof(Memory), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {}
  ~World() { munmap(memory_, sizeof(Memory)); }

  Memory& memory() { return *static_cast<Memory*>(memory_); }
  uint64_t now() { return memory().nowNs; }
  auto clock() {
    return [this] { return now(); };
  }

  // As process `self` sees the table; the writer is known to be gone once the next one asks.
  Tab as(uint64_t self) {
    Memory& m = memory();
    Sharing<Header<Mortal>> sharing;
    sharing.self = self;
    sharing.isGone = [](uint64_t owner) { return owner == kWriter; };
    sharing.now = [](const Header<Mortal>& h) { return reinterpret_cast<const Memory&>(h).nowNs; };
    return Tab(&m.header, {m.buckets, m.tallies, m.completions, m.limits, m.lines, m.tickets, m.lanes, m.leases, m.uncharged, kCapacity + 1, kCapacity + 1}, sharing);
  }

  // Three targets with rates, one with a deposit and one that has been used, a freed slot, a promise that holds.
  void begin(bool lapsed) {
    Memory& m = *new (memory_) Memory();
    m.nowNs = kSecond;
    m.spent = 0;
    m.header.capacity = kCapacity;
    Tab table = as(kNext);
    table.initialise(kRate, kBurst, now());
    bool resumed = false;
    table.extendValidity(now() + 10 * kSecond, resumed, clock());
    for (Slot& slot : m.slots) table.addTarget(kMayBorrow, slot, clock());
    Slot freed{};
    table.addTarget(0, freed, clock());
    table.removeTarget(freed, clock());
    for (int i = 0; i < 3; ++i) table.setFallback(m.slots[i], 100, 60, clock());
    std::vector<Tab::Share> shares{{0, 0}, {encode(200), encode(100)}, {encode(100), encode(100)}, {encode(300), encode(50)}, {0, 0}};
    CHECK_EQ(static_cast<int>(table.allocate(shares.data(), 5, true, clock())), static_cast<int>(kOk));
    m.nowNs += kSecond;
    table.deposit(m.slots[0], 40, now() + kSecond, clock());
    table.acquire(m.slots[1], 30, now());
    table.tick(0, clock());
    m.nowNs += lapsed ? 20 * kSecond : 2 * kSecond;
  }

 private:
  void* memory_;
};

// Forking is slow under sanitizers.
constexpr long kStride = harness::sanitized ? 5 : 1;

struct Act {
  const char* name;
  std::function<void(Tab&, World&)> run;
};

const std::vector<Act>& acts() {
  static const std::vector<Act> all = {
      {"addTarget", [](Tab& t, World& w) { Slot s{}; t.addTarget(kMayBorrow, s, w.clock()); }},
      {"removeTarget", [](Tab& t, World& w) { t.removeTarget(w.memory().slots[1], w.clock()); }},
      {"setLimit", [](Tab& t, World& w) { t.setLimit(w.memory().slots[0], 50, 20, w.clock()); }},
      {"setFallback up", [](Tab& t, World& w) { t.setFallback(w.memory().slots[0], 500, 300, w.clock()); }},
      {"setFallback down", [](Tab& t, World& w) { t.setFallback(w.memory().slots[0], 10, 5, w.clock()); }},
      {"setFallbacks", [](Tab& t, World& w) {
         const std::vector<Tab::Share> shares{{0, 0}, {encode(700), encode(300)}, {encode(20), encode(10)}, {encode(30), encode(200)}};
         t.setFallbacks(shares.data(), 4, w.clock());
       }},
      {"allocate", [](Tab& t, World& w) {
         std::vector<Tab::Share> shares{{0, 0}, {encode(10), encode(20)}, {encode(600), encode(300)}, {encode(100), encode(100)}};
         t.allocate(shares.data(), 4, true, w.clock());
       }},
      {"endow", [](Tab& t, World& w) { Slot s{}; t.addTarget(0, s, w.clock()); t.setFallback(s, 300, 200, w.clock()); t.endow(s, w.clock()); }},
      {"deposit", [](Tab& t, World& w) { t.deposit(w.memory().slots[2], 50, w.now() + kSecond, w.clock()); }},
      {"withdraw", [](Tab& t, World& w) { t.withdraw(w.memory().slots[0], w.clock()); }},
      {"reclaimExpired", [](Tab& t, World& w) { t.reclaimExpired(w.clock()); }},
      {"tick", [](Tab& t, World& w) { t.tick(0, w.clock()); }},
      {"extendValidity", [](Tab& t, World& w) { bool resumed = false; t.extendValidity(w.now() + 30 * kSecond, resumed, w.clock()); }},
      {"setResource up", [](Tab& t, World& w) { t.setResource(2000, 900, w.clock()); }},
      {"setMode", [](Tab& t, World& w) { t.setMode(w.memory().slots[0], Mode::kOff, w.now()); t.setMode(w.memory().slots[1], Mode::kShadow, w.now()); }},
      {"takeRole", [](Tab& t, World& w) { t.takeRole(kSecond, w.clock()); t.leaveRole(); }},
  };
  return all;
}

int64_t levels(Tab& table, uint64_t now) {
  int64_t sum = 0;
  for (uint32_t i = 0; i < table.highWater(); ++i) sum += table.levelOf(i, now).level;
  return sum;
}

// What must hold of any table that nobody is changing.
void checkWhole(World& w, int64_t before) {
  Tab table = w.as(kNext);
  const uint64_t rate = table.header().resourceRate.load(std::memory_order_relaxed);
  const uint64_t burst = table.header().resourceBurst.load(std::memory_order_relaxed);
  CHECK_LE(levels(table, w.now()), before);
  for (const uint64_t later : {uint64_t{0}, 15 * kSecond, 40 * kSecond}) {
    uint64_t rates = 0, bursts = 0;
    for (uint32_t i = 0; i < table.highWater(); ++i) {
      const LevelReading r = table.levelOf(i, w.now() + later);
      rates += r.rate;
      bursts += r.burst + r.deposit;
      if (i && !(table.metaOf(i) & kLive)) CHECK_EQ(r.rate + r.burst + r.deposit, 0u);
    }
    CHECK_LE(rates, rate);
    CHECK_LE(bursts, burst);
  }
  uint64_t sums[4];
  table.sums(sums);
  CHECK_LE(sums[2], rate);
  CHECK_LE(sums[3], burst);
  // Over the next minute all together get what the resource law allows, and no more.
  uint64_t got = 0;
  for (int s = 0; s < 60; ++s) {
    w.memory().nowNs += kSecond;
    table.tick(0, w.clock());
    for (const Slot& slot : w.memory().slots)
      for (uint64_t cost : {16u, 1u})
        for (int32_t decision; (decision = table.acquire(slot, cost, w.now())) == kOwn || decision == kBorrowed;) got += cost;
  }
  CHECK_LE(got, static_cast<uint64_t>(before) + 60 * rate);
  // Every slot can be had, once.
  std::set<uint32_t> had;
  uint32_t live = 0;
  for (uint32_t i = 1; i < table.highWater(); ++i)
    if (table.metaOf(i) & kLive) ++live, had.insert(i);
  CHECK_EQ(table.header().liveTargets.load(std::memory_order_relaxed), live);
  for (uint32_t n = live; n < kCapacity; ++n) {
    Slot slot{};
    CHECK_EQ(static_cast<int>(table.addTarget(0, slot, w.clock())), static_cast<int>(kOk));
    CHECK(had.insert(slot.index).second);
  }
  Slot slot{};
  CHECK_EQ(static_cast<int>(table.addTarget(0, slot, w.clock())), static_cast<int>(kFull));
}

void dieEverywhere(bool lapsed) {
  uint64_t deaths = 0, repairs = 0;
  for (const Act& act : acts()) {
    // What there is before and after the whole change: a deposit that had expired counts only when it is back.
    int64_t tokens = 0;
    {
      World w;
      w.begin(lapsed);
      Tab table = w.as(kNext);
      tokens = levels(table, w.now());
      act.run(table, w);
      tokens = std::max(tokens, levels(table, w.now()));
    }
    for (long lives = 0;; lives += kStride) {
      World w;
      w.begin(lapsed);
      const pid_t writer = fork();
      if (writer == 0) {
        Tab table = w.as(kWriter);
        livesLeft = lives;
        act.run(table, w);
        _exit(0);
      }
      int status = 0;
      waitpid(writer, &status, 0);
      const bool died = WEXITSTATUS(status) == 9;
      harness::context() = std::string(act.name) + ", dead at access " + std::to_string(lives) + (lapsed ? ", lapsed" : "");
      // The next change, whatever it is, repairs.
      Tab table = w.as(kNext);
      const bool held = w.memory().header.writerLock.load(std::memory_order_relaxed) != 0;
      CHECK_EQ(static_cast<int>(table.setMayBorrow(w.memory().slots[2], true)), static_cast<int>(kOk));
      CHECK_EQ(w.memory().header.writerLock.load(std::memory_order_relaxed), 0u);
      CHECK_EQ(w.memory().header.repairs.load(std::memory_order_relaxed), held ? 1u : 0u);
      checkWhole(w, tokens);
      if (!died) break;
      ++deaths;
      repairs += held;
    }
  }
  harness::context().clear();
  CHECK_GE(deaths, 500u / kStride);
  CHECK_GE(repairs, 400u / kStride);
}

}  // namespace

TEST("a writer that dies anywhere leaves the laws whole for whoever writes next") { dieEverywhere(false); }

TEST("a writer that dies anywhere without a controller leaves the laws whole for whoever writes next") { dieEverywhere(true); }

TEST("a process that dies anywhere while it leases leaves no tokens behind and none too many, and its lane is free") {
  // Takes chunks, spends a part of each, gives back the rest.
  const auto live = [](Tab mine, World& w) {
    Memory& m = w.memory();
    if (!mine.claimLane(w.now())) return;
    uint64_t left = 0, served = 0;
    Tab::Lease got{};
    for (const uint64_t want : {6u, 5u, 6u, 0u}) {
      mine.lease(m.slots[0], {got.units, left, served}, want, 1, w.now(), got);
      left = got.units;
      served = 0;
      if (left < 2) continue;
      left -= 2;
      served = 1;
      m.spent += 2;
    }
    mine.releaseLane(w.now());
  };
  uint64_t deaths = 0, orphaned = 0;
  for (const bool lapsed : {false, true})
    // Every second access each time, and between them all of them.
    for (long lives = lapsed;; lives += 2 * kStride) {
      World w;
      w.begin(lapsed);
      harness::context() = "dead at access " + std::to_string(lives) + (lapsed ? ", lapsed" : "");
      Tab table = w.as(kNext);
      const int64_t before = levels(table, w.now());
      const uint64_t counted = table.counters(1).admittedTokens;
      const pid_t holder = fork();
      if (holder == 0) {
        livesLeft = lives;
        live(w.as(kWriter), w);
        _exit(0);
      }
      int status = 0;
      waitpid(holder, &status, 0);
      const auto spent = static_cast<int64_t>(w.memory().spent);
      orphaned += table.leasedOf(1) > 0;
      // Law 2 already holds with the chunk still out; whoever ticks takes it back.
      CHECK_LE(levels(table, w.now()) + spent, before);
      table.reapLanes(w.now());
      CHECK_EQ(table.leasedOf(1), 0);
      CHECK_EQ(w.memory().header.laneOwners[0].load(std::memory_order_relaxed), 0u);
      // Counted too high by a chunk at most, too low by what it took without coming to count it.
      const auto over = static_cast<int64_t>(table.counters(1).admittedTokens - counted) - spent;
      CHECK_LE(over, 6);
      CHECK_GE(over, -6);
      Tab heir = w.as(3);
      CHECK(heir.claimLane(w.now()));
      heir.releaseLane(w.now());
      checkWhole(w, before - spent);
      if (WEXITSTATUS(status) != 9) break;
      ++deaths;
    }
  harness::context().clear();
  CHECK_GE(deaths, 75u / kStride);
  CHECK_GE(orphaned, 25u / kStride);
}

TEST("a lock held by one who is alive is not taken, only waited for") {
  World w;
  w.begin(false);
  w.memory().header.writerLock.store(kNext, std::memory_order_relaxed);
  Tab table = w.as(3);
  CHECK_EQ(static_cast<int>(table.setMayBorrow(w.memory().slots[0], true)), static_cast<int>(kBusy));
  w.memory().header.writerLock.store(0, std::memory_order_relaxed);
  CHECK_EQ(static_cast<int>(table.setMayBorrow(w.memory().slots[0], true)), static_cast<int>(kOk));
}

HARNESS_MAIN
