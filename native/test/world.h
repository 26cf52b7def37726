// A table beside exact references of everything it promises. Every operation is done on both, and afterwards
// the laws are checked: no tolerance in the table's favour, two units per settlement in the other direction.
#pragma once

#include <array>
#include <atomic>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

#include "harness.h"
#include "memory.h"
#include "reference.h"

namespace foretoken {

using reference::units;
using reference::Wide;
using Tab = Table<std::atomic>;

class World {
 public:
  struct Limit {
    reference::Bucket bucket;
    bool set = false;
  };
  struct Target {
    Slot slot{};
    bool mayBorrow = false;
    Limit limit;
    uint64_t refundable = 0;       // admitted and not refunded
    uint64_t chargedBeyond = 0;    // charged after the fact and not refunded
    uint64_t admitted = 0, denied = 0, tokens = 0, deniedTokens = 0, borrowed = 0;
    int64_t share = kLevelLimit;  // none set yet
    bool mayTakeStock = false;
    uint64_t waitUntilNs = 0;
    Mode mode = Mode::kEnforce;
    uint64_t passed = 0, passedTokens = 0, unmetered = 0, unmeteredTokens = 0;
    uint64_t fallbackRate = 0, fallbackBurst = 0;
  };

  // What a thread with a lane of its own holds of a target.
  struct Holding {
    uint64_t units = 0, left = 0, served = 0;
    uint8_t epoch = 0;
    uint32_t promise = 0;
  };
  static constexpr uint32_t kHolders = 3;

  World(uint32_t capacity, uint64_t rate, uint64_t burst)
      : memory(capacity, rate, burst, 1, {.now = [](const PlainHeader& header) { return header.virtualNs.load(std::memory_order_relaxed); }}), table(memory.table), admissions_(rate, burst, 1, capacity + 1), everything_(rate, burst, 1, capacity + 1), spent_(rate, burst, 1, capacity + 1), capacity_(capacity) {
    own_.resize(capacity + 1);
    slack_.assign(capacity + 1, 0);
    epochs_.assign(capacity + 1, 0);
    gainedNs_.assign(capacity + 1, 0);
    own_[0].begin(1);
    own_[0].change(decode(encode(rate)), decode(encode(burst)));
    own_[0].give(burst);
    events_.push_back({1, 0, rate, burst});
    memory.header().virtualNs.store(now_, std::memory_order_relaxed);
    for (Tab& holder : holders_) {
      holder = table;
      CHECK(holder.claimLane(now_));
    }
  }

  Memory<std::atomic> memory;
  Tab& table;
  std::map<uint32_t, Target> targets;  // by slot
  std::vector<Slot> stale;
  bool late = false;  // requests may carry readings of the clock that are older than the control plane's

  uint64_t now() const { return now_; }
  // Where nobody leases a lapse needs no notice.
  bool lapsed() const { return noticed_ || (!leases_ && now_ > lapsesNs()); }
  uint64_t validUntilNs() const { return validUntilNs_; }
  uint64_t resourceRate() { return memory.header().resourceRate.load(std::memory_order_relaxed); }
  uint64_t resourceBurst() { return memory.header().resourceBurst.load(std::memory_order_relaxed); }
  uint64_t admittedTokens() const { return admittedTokens_; }
  Wide spare() const { return everything_.level(); }
  auto clock() {
    return [this] { return now_; };
  }

  void advance(uint64_t ns) {
    uint64_t to = now_ + ns;
    // Not to the one moment at which a change would be dated after it.
    if (to == lapsesNs()) ++to;
    if (!lapsed() && !leases_ && to > lapsesNs()) lapseModel(lapsesNs());
    now_ = to;
    memory.header().virtualNs.store(now_, std::memory_order_relaxed);
    for (auto& o : own_) o.advance(now_);
    admissions_.advance(now_);
    everything_.advance(now_);
    spent_.advance(now_);
    for (auto& [i, t] : targets) t.limit.bucket.advance(now_);
  }

  // ---- requests ----

  int32_t acquire(uint32_t index, uint64_t cost, uint64_t earlierNs = 0, bool inLine = false) {
    Target& t = targets.at(index);
    actIfFarOff(index);
    const uint64_t read = now_ - std::min(earlierNs, now_ - 1);
    // Not before the time up to which a tick has handed on what full buckets clipped.
    const uint64_t at = std::max(read, memory.header().tickedNs.load(std::memory_order_relaxed));
    const LevelReading before = table.levelOf(index, at), pool = table.levelOf(0, at);
    const int32_t judged = expect(t, cost, at, inLine, before, pool);
    const int32_t expected = t.mode == Mode::kOff || (t.mode == Mode::kShadow && judged <= 0) ? static_cast<int32_t>(kUncharged) : judged;
    const int32_t decision = inLine ? table.acquireAny(t.slot, cost, read, true) : table.acquire(t.slot, cost, read);
    if (!earlierNs && decision != expected)
      harness::context() += " cost " + std::to_string(cost) + " own " + std::to_string(before.level) + "/" + std::to_string(before.burst + before.deposit) +
                            " pool " + std::to_string(pool.level) + "/" + std::to_string(pool.burst) + " share " + std::to_string(t.share) +
                            " core share " + std::to_string(memory.tally(index).borrowShare.load(std::memory_order_relaxed)) + " valid " + std::to_string(memory.header().validUntil.load(std::memory_order_relaxed) >> 1) + "/" + std::to_string(validUntilNs_) + " now " + std::to_string(now_) + (lapsed() ? " lapsed" : "") + (t.limit.set ? " limited" : "");
    if (!earlierNs) CHECK_EQ(decision, expected);
    if (decision == kUncharged) {
      // Nothing is taken from anyone: every reference stays as it is.
      CHECK(t.mode != Mode::kEnforce);
      if (t.mode == Mode::kOff) {
        ++t.unmetered;
        t.unmeteredTokens += cost;
      } else {
        ++t.denied;
        t.deniedTokens += cost;
        ++t.passed;
        t.passedTokens += cost;
      }
    } else if (decision > 0) {
      ++t.admitted;
      t.tokens += cost;
      t.refundable += cost;
      admittedTokens_ += cost;
      admissions_.take(cost);
      everything_.take(cost);
      spent_.take(cost);
      // Decided between the reading of the clock and now; not before the bucket was last given anything.
      const uint32_t from = decision == kBorrowed ? 0 : index;
      const uint64_t takenNs = std::max({at, sinceOf(from), gainedNs_[from]});
      events_.push_back({takenNs, static_cast<int64_t>(cost), 0, 0});
      lastTakenNs_ = std::max(lastTakenNs_, takenNs);
      if (!late) CHECK_GE(admissions_.level(), Wide{0});
      if (decision == kBorrowed) {
        CHECK(t.mayBorrow);
        t.borrowed += cost;
        if (shareHolds(at)) {
          t.share -= static_cast<int64_t>(cost);
          CHECK_GE(t.share, 0);
        }
        own_[0].take(cost);
      } else {
        own_[index].take(cost);
      }
      if (t.limit.set) {
        t.limit.bucket.take(cost);
        if (!late) CHECK_GE(t.limit.bucket.level(), Wide{0});
      }
    } else if (decision != kBadHandle && !inLine) {
      ++t.denied;
      t.deniedTokens += cost;
    }
    notice();
    return decision;
  }

  void refund(uint32_t index, uint64_t amount) {
    actIfFarOff(index);
    refundOnce(index, amount);
    notice();
  }

  void charge(uint32_t index, uint64_t amount) {
    actIfFarOff(index);
    chargeOnce(index, amount);
    notice();
  }

  void waitInLine(uint32_t index, uint64_t untilNs) {
    if (leases_) actOnLapse();
    targets.at(index).waitUntilNs = untilNs;
    table.waitInLine(index, untilNs, now_);
  }

 private:
  void refundOnce(uint32_t index, uint64_t amount) {
    Target& t = targets.at(index);
    uint64_t none = 0;
    uint64_t& uncharged = t.mode == Mode::kOff ? t.unmeteredTokens : t.mode == Mode::kShadow ? t.passedTokens : none;
    // Nobody refunds what has not been served; as long as it is on lease the table could not tell.
    if (amount > t.refundable + t.chargedBeyond + uncharged && lentOf(index)) return;
    const int64_t had = table.levelOf(index, now_).level;
    const int32_t decision = table.refund(t.slot, amount, now_);
    if (amount > t.refundable + t.chargedBeyond + uncharged) {
      CHECK_EQ(decision, static_cast<int32_t>(kBadCost));
      return;
    }
    CHECK_EQ(decision, static_cast<int32_t>(kOwn));
    const uint64_t ofUncharged = std::min(amount, uncharged);
    uncharged -= ofUncharged;
    amount -= ofUncharged;
    if (amount == 0) return;
    if (lapsed()) ++slack_[index];
    t.tokens -= amount;
    own_[index].give(amount);
    // One that found no room gave nothing.
    if (table.levelOf(index, now_).level > had) gainedNs_[index] = now_;
    everything_.give(amount);
    spent_.give(amount);
    // The law is net of refunds, also of those of a charge after the fact: the charge may have refilled long ago, and what
    // its refund brings may then be admitted beside a whole burst.
    const uint64_t ofAdmissions = std::min(amount, t.refundable);
    t.refundable -= ofAdmissions;
    t.chargedBeyond -= amount - ofAdmissions;
    admissions_.give(amount);
    if (t.limit.set) t.limit.bucket.give(amount);
    events_.push_back({now_, -static_cast<int64_t>(amount), 0, 0});
  }

  void chargeOnce(uint32_t index, uint64_t amount) {
    Target& t = targets.at(index);
    const uint64_t taken = table.charge(t.slot, amount, now_);
    CHECK_LE(taken, amount);
    if (t.mode == Mode::kOff) {
      CHECK_EQ(taken, amount);
      t.unmeteredTokens += taken;
      return;
    }
    own_[index].take(taken);
    everything_.take(taken);
    spent_.take(taken);
    t.tokens += taken;
    t.chargedBeyond += taken;
    // A limit is charged alike, or a refund of this would lift it above what was taken from it.
    if (t.limit.set) t.limit.bucket.take(taken);
    const LevelReading after = table.levelOf(index, now_);
    // At most one burst of debt, if it was this charge that made it.
    if (taken) CHECK_GE(after.level, -static_cast<int64_t>(after.burst + after.deposit));
  }

 public:
  // ---- leases ----

  // Settles what a holder has of a target and goes on with as much as it can get of what it wants.
  void lease(uint32_t holder, uint32_t index, uint64_t want, uint64_t least) {
    Target& t = targets.at(index);
    Holding& h = held_[holder][index];
    if (!leases_) actOnLapse();
    leases_ = true;
    actIfFarOff(index);
    const uint64_t cap = own_[index].burst() + own_[index].deposit();
    Tab::Lease got{};
    const int32_t decision = holders_[holder].lease(t.slot, {h.units, h.left, h.served}, want, least, now_, got);
    CHECK_EQ(decision, static_cast<int32_t>(got.units ? kOwn : kDenied));
    // One that begins an epoch has its level clipped under what it is about to take, too.
    if (const auto epoch = Word{memory.bucket(index).word.load(std::memory_order_relaxed)}.epoch(); epoch != epochs_[index]) {
      epochs_[index] = epoch;
      slack_[index] += want + 2;
    }
    const uint64_t taken = got.units > h.left ? got.units - h.left : 0, back = h.left - std::min(h.left, got.units);
    if (taken) {
      CHECK(!t.limit.set && t.mode != Mode::kOff && t.waitUntilNs <= now_);
      CHECK_LE(got.units, cap / (2 * kLanes));
    }
    // Tokens are counted when they are leased and corrected when they come back; requests when they are settled.
    t.tokens += taken - back;
    t.admitted += h.served;
    h = {got.units, got.units, 0, got.epoch, got.promise};
    own_[index].take(taken);
    own_[index].lend(lentOf(index));
    own_[index].give(back);
    everything_.take(taken);
    everything_.give(back);
    if (back) gainedNs_[index] = now_;
    CHECK_EQ(table.leasedOf(index), static_cast<int64_t>(lentOf(index)));
    notice();
  }

  // A request served from a lease, if it still may be: what a thread does without asking the table.
  void spend(uint32_t holder, uint32_t index, uint64_t cost) {
    Holding& h = held_[holder][index];
    if (cost > h.left || !isSpendable(index, h)) return;
    Target& t = targets.at(index);
    CHECK(!t.limit.set && t.mode != Mode::kOff);
    h.left -= cost;
    ++h.served;
    t.refundable += cost;
    admittedTokens_ += cost;
    // Served now, whenever it was leased: the law must hold for that too.
    admissions_.take(cost);
    spent_.take(cost);
    CHECK_GE(admissions_.level(), Wide{0});
    events_.push_back({now_, static_cast<int64_t>(cost), 0, 0});
  }

  // ---- the control plane: each returns the status, and knows itself what must have become of the levels ----

  Status add(bool mayBorrow) {
    Slot slot{};
    const Status s = control([&] { return table.addTarget(mayBorrow ? kMayBorrow : 0, slot, clock()); });
    if (targets.size() == capacity_) {
      CHECK_EQ(static_cast<int>(s), static_cast<int>(kFull));
      return s;
    }
    CHECK_EQ(static_cast<int>(s), static_cast<int>(kOk));
    CHECK(!targets.contains(slot.index));
    for (const Slot old : stale) CHECK(old.index != slot.index || old.generation != slot.generation);
    Target t;
    t.slot = slot;
    t.mayBorrow = mayBorrow;
    targets.emplace(slot.index, t);
    own_[slot.index].begin(now_);
    slack_[slot.index] = 0;
    check();
    return s;
  }

  void remove(uint32_t index) {
    const Slot slot = targets.at(index).slot;
    CHECK_EQ(static_cast<int>(control([&] { return table.removeTarget(slot, clock()); })), static_cast<int>(kOk));
    for (auto& held : held_) held[index] = {};
    CHECK_EQ(table.leasedOf(index), 0);
    stale.push_back(slot);
    targets.erase(index);
    own_[index].begin(now_);
    check();
  }

  Status allocate(std::vector<Tab::Share> shares, bool rest) {
    const std::vector<Tab::Share> wanted = shares;
    const Status s = control([&] {
      const Status done = table.allocate(shares.data(), static_cast<uint32_t>(shares.size()), rest, clock());
      // Before a deposit that ends with this change: what is left of it may stay under the new burst.
      if (done == kOk)
        for (uint32_t i = 1; i < wanted.size(); ++i)
          if (targets.contains(i)) own_[i].change(decode(wanted[i].rate), decode(wanted[i].burst));
      return done;
    });
    if (lapsed()) CHECK_EQ(static_cast<int>(s), static_cast<int>(kLapsed));
    check();
    return s;
  }

  uint64_t deposit(uint32_t index, uint64_t amount, uint64_t forNs) {
    if (leases_) actOnLapse();
    const bool wasLapsed = lapsed();
    const uint64_t until = now_ + forNs, old = own_[index].deposit() ? own_[index].depositUntilNs() : 0;
    const uint64_t moved = control([&] { return table.deposit(targets.at(index).slot, amount, until, clock()); });
    CHECK_LE(moved, amount);
    if (wasLapsed) CHECK_EQ(moved, 0u);
    if (moved) {
      const uint64_t end = depositEndOf(index);
      CHECK_LE(end, std::max(until, old));
      CHECK_GE(end + (1ull << kExpiryShift), std::min(std::max(until, old), now_ + (uint64_t{UINT32_MAX} << kExpiryShift)));
      own_[index].receive(moved, end);
    }
    check();
    return moved;
  }

  int64_t withdraw(uint32_t index) {
    const int64_t back = control([&] { return table.withdraw(targets.at(index).slot, clock()); });
    CHECK_GE(back, 0);
    if (!lapsed()) own_[index].endDeposit();
    check();
    return back;
  }

  int64_t reclaim() {
    const int64_t back = control([&] { return table.reclaimExpired(clock()); });
    CHECK_GE(back, 0);
    check();
    return back;
  }

  // The controller may have been held up for `earlierNs` since it read its clock, at most since its last tick.
  TickResult tick(uint64_t earlierNs = 0) {
    TickResult r{};
    returning_ = true;
    const uint64_t at = now_ - std::min(earlierNs, now_ - tickedNs_);
    tickedNs_ = now_;
    control([&] {
      r = table.tick(0, [at] { return at; });
      return 0;
    });
    returning_ = false;
    // What it hands on was there as soon as the last of the admissions it counted: at any time from then on the levels
    // are within what one bucket would hold, whenever the tick itself came to act.
    if (r.returned > 0) gainedNs_[0] = std::max(gainedNs_[0], lastTakenNs_);
    CHECK_GE(r.returned, 0);
    check();
    return r;
  }

  Status setFallback(uint32_t index, uint64_t rate, uint64_t burst) {
    Target& t = targets.at(index);
    const Status s = control([&] { return table.setFallback(t.slot, rate, burst, clock()); });
    if (s == kOk) noteFallback(index, rate, burst);
    check();
    return s;
  }

  Status setFallbacks(const std::vector<Tab::Share>& shares) {
    const Status s = control([&] { return table.setFallbacks(shares.data(), static_cast<uint32_t>(shares.size()), clock()); });
    if (s == kOk)
      for (uint32_t i = 1; i < shares.size(); ++i)
        if (targets.contains(i)) noteFallback(i, decode(shares[i].rate), decode(shares[i].burst));
    check();
    return s;
  }

  bool extend(uint64_t forNs) {
    if (leases_) actOnLapse();
    const bool wasLapsed = lapsed();
    bool resumed = false;
    const Status s = control([&] { return table.extendValidity(now_ + forNs, resumed, clock()); });
    CHECK_EQ(static_cast<int>(s), static_cast<int>(kOk));
    CHECK_EQ(resumed, wasLapsed);
    if (wasLapsed) validUntilNs_ = now_ + forNs;
    else validUntilNs_ = std::max(validUntilNs_, now_ + forNs);
    validUntilNs_ = std::min(validUntilNs_, kLatestNs) | 1;
    noticed_ = false;
    check();
    return resumed;
  }

  Status setResource(uint64_t rate, uint64_t burst) {
    const Status s = control([&] { return table.setResource(rate, burst, clock()); });
    if (s == kOk) {
      admissions_.change(rate, burst);
      everything_.change(rate, burst);
      spent_.change(rate, burst);
      events_.push_back({now_, 0, rate, burst});
    }
    check();
    return s;
  }

  void setLimit(uint32_t index, uint64_t rate, uint64_t burst) {
    Target& t = targets.at(index);
    CHECK_EQ(static_cast<int>(control([&] { return table.setLimit(t.slot, rate, burst, clock()); })), static_cast<int>(kOk));
    if (burst == 0) t.limit.set = false;
    else if (t.limit.set) t.limit.bucket.change(decode(encode(rate)), decode(encode(burst)));
    else t.limit = {reference::Bucket(decode(encode(rate)), decode(encode(burst)), now_), true};
    check();
  }

  void setMode(uint32_t index, Mode mode) {
    Target& t = targets.at(index);
    CHECK_EQ(static_cast<int>(control([&] { return table.setMode(t.slot, mode, now_); })), static_cast<int>(kOk));
    t.mode = mode;
    CHECK(table.modeOf(index) == mode);
    check();
  }

  void setShare(uint32_t index, uint64_t share, bool mayTakeStock = false) {
    table.setBorrowShare(index, static_cast<int64_t>(share), mayTakeStock);
    targets.at(index).share = static_cast<int64_t>(share);
    targets.at(index).mayTakeStock = mayTakeStock;
  }

  void setStock(uint64_t units) {
    table.setStock(units);
    stock_ = units;
  }

  // What a handle that was never given out, or is no longer, must not move.
  void useStale(Slot slot, uint64_t cost) {
    const auto before = image();
    CHECK_EQ(table.acquire(slot, cost, now_), static_cast<int32_t>(kBadHandle));
    CHECK_EQ(table.refund(slot, cost, now_), static_cast<int32_t>(kBadHandle));
    CHECK_EQ(table.charge(slot, cost, now_), 0u);
    CHECK_EQ(table.complete(slot, 1, 1, 1), static_cast<int32_t>(kBadHandle));
    CHECK_EQ(table.deposit(slot, cost, now_ + kNsPerSec, clock()), 0u);
    CHECK_EQ(table.withdraw(slot, clock()), 0);
    CHECK_EQ(static_cast<int>(table.removeTarget(slot, clock())), static_cast<int>(kStale));
    CHECK_EQ(static_cast<int>(table.setLimit(slot, 1, 1, clock())), static_cast<int>(kStale));
    CHECK_EQ(static_cast<int>(table.setMode(slot, Mode::kOff, now_)), static_cast<int>(kStale));
    CHECK_EQ(table.acquireBeyond(slot), static_cast<int32_t>(kBadHandle));
    CHECK_EQ(static_cast<int>(table.setFallback(slot, 1, 1, clock())), static_cast<int>(kStale));
    CHECK(image() == before);
  }

  // Everything there is to see of the table.
  std::vector<int64_t> image() const {
    std::vector<int64_t> all;
    for (uint32_t i = 0; i < table.highWater(); ++i) {
      const LevelReading r = table.levelOf(i, now_);
      const Counters c = table.counters(i);
      for (const uint64_t v : {static_cast<uint64_t>(r.level), r.rate, r.burst, r.deposit, c.admitted, c.admittedTokens, c.denied, c.deniedTokens, c.borrowedTokens})
        all.push_back(static_cast<int64_t>(v));
    }
    return all;
  }

  Wide levels() const {
    Wide sum = 0;
    for (uint32_t i = 0; i < table.highWater(); ++i) sum += units(1) * table.levelOf(i, now_).level;
    return sum;
  }

  Wide usable() const {
    Wide sum = 0;
    for (uint32_t i = 0; i < table.highWater(); ++i) sum += units(1) * std::max<int64_t>(0, table.levelOf(i, now_).level);
    return sum;
  }

  // The laws that must hold between any two operations.
  void check() {
    uint64_t rates = 0, bursts = 0;
    for (uint32_t i = 0; i < table.highWater(); ++i) {
      const LevelReading r = table.levelOf(i, now_);
      rates += r.rate;
      bursts += r.burst + r.deposit;
      CHECK_LE(r.level, static_cast<int64_t>(r.burst + r.deposit));
    }
    CHECK_LE(rates, resourceRate());
    CHECK_LE(bursts, resourceBurst());
    if (!late) {
      CHECK_LE(levels(), everything_.level());
      // What is still to be spent of leases counts as admitted when it is spent.
      CHECK_LE(levels() + units(1) * spendable(), spent_.level());
      // All that could be admitted at once: a debt makes no room for others.
      CHECK_LE(usable() + units(1) * spendable(), admissions_.level());
    }
    for (auto& [i, t] : targets) {
      const LevelReading r = table.levelOf(i, now_);
      CHECK_EQ(r.rate, own_[i].rate());
      CHECK_EQ(r.burst, own_[i].burst());
      CHECK_EQ(r.deposit, own_[i].deposit());
      // However often the parameters change meanwhile.
      if (r.deposit) CHECK_EQ(depositEndOf(i), own_[i].depositUntilNs());
      if (!late) {
        CHECK_LE(units(1) * r.level, own_[i].level());
        CHECK_LE(own_[i].level() - units(1) * r.level, slackOf(i));
      }
      const Counters c = table.counters(i);
      CHECK_EQ(c.admitted, t.admitted);
      CHECK_EQ(c.admittedTokens, t.tokens);
      CHECK_EQ(c.denied, t.denied);
      CHECK_EQ(c.deniedTokens, t.deniedTokens);
      CHECK_EQ(c.borrowedTokens, t.borrowed);
      CHECK_EQ(c.passed, t.passed);
      CHECK_EQ(c.passedTokens, t.passedTokens);
      CHECK_EQ(c.unmetered, t.unmetered);
      CHECK_EQ(c.unmeteredTokens, t.unmeteredTokens);
    }
    if (!late) {
      const LevelReading pool = table.levelOf(0, now_);
      CHECK_LE(units(1) * pool.level, own_[0].level());
      CHECK_LE(own_[0].level() - units(1) * pool.level, slackOf(0));
    }
  }

  // Law 2 over every interval at once: all admissions in the order of the time they were decided for.
  void checkWhole() {
    struct Event e{};
    std::stable_sort(events_.begin(), events_.end(), [](const Event& a, const Event& b) { return a.atNs < b.atNs; });
    reference::Bucket resource;
    for (const Event& event : events_) {
      e = event;
      resource.advance(e.atNs);
      if (e.cost > 0) {
        resource.take(static_cast<uint64_t>(e.cost));
        CHECK_GE(resource.level(), Wide{0});
      } else if (e.cost < 0) {
        resource.give(static_cast<uint64_t>(-e.cost));
      } else if (resource.burst() == 0) {
        resource = reference::Bucket(e.rate, e.burst, e.atNs, capacity_ + 1);
      } else {
        resource.change(e.rate, e.burst);
      }
    }
  }

 private:
  struct Event {
    uint64_t atNs;
    int64_t cost;
    uint64_t rate, burst;
  };

  uint64_t sinceOf(uint32_t i) {
    auto& b = memory.bucket(i);
    return b.params[Word{b.word.load(std::memory_order_relaxed)}.epoch() & 1].sinceNs.load(std::memory_order_relaxed);
  }
  uint64_t depositEndOf(uint32_t i) {
    auto& b = memory.bucket(i);
    const auto& p = b.params[Word{b.word.load(std::memory_order_relaxed)}.epoch() & 1];
    return read(p.sinceNs.load(std::memory_order_relaxed), p.rateAndBurst.load(std::memory_order_relaxed), p.deposit.load(std::memory_order_relaxed)).depositUntilNs;
  }

  Wide unseen() {
    Wide sum = 0;
    for (auto& [i, t] : targets) {
      auto& b = memory.bucket(i);
      const auto& p = b.params[Word{b.word.load(std::memory_order_relaxed)}.epoch() & 1];
      const Reading r = read(p.sinceNs.load(std::memory_order_relaxed), p.rateAndBurst.load(std::memory_order_relaxed), p.deposit.load(std::memory_order_relaxed));
      if (r.deposit && r.depositUntilNs <= now_ && !lapsed()) sum += units(r.deposit);
    }
    return sum;
  }

  bool shareHolds(uint64_t at) const { return at <= lapsesNs() || (leases_ && !noticed_); }

  int32_t expect(const Target& t, uint64_t cost, uint64_t at, bool inLine, const LevelReading& own, const LevelReading& pool) {
    if (!inLine && t.waitUntilNs > at) return kDenied;
    if (t.limit.set) {
      const auto& b = memory.limit(t.slot.index);
      const Word w{b.word.load(std::memory_order_relaxed)};
      const auto& v = b.params[w.epoch() & 1];
      const Reading p = read(v.sinceNs.load(std::memory_order_relaxed), v.rateAndBurst.load(std::memory_order_relaxed), v.deposit.load(std::memory_order_relaxed));
      if (cost > p.burst) return kTooLarge;
      if (evaluate(w.level(), p, at, 0, 0).level < static_cast<int64_t>(cost)) return kDenied;
    }
    if (own.level >= static_cast<int64_t>(cost)) return kOwn;
    uint64_t most = own.burst + own.deposit;
    if (t.mayBorrow) most = std::max(most, pool.burst + pool.deposit);
    // What has been given nothing yet says nothing about what it may come to have.
    const int32_t denied = cost > (most > 0 ? most : resourceBurst()) ? kTooLarge : kDenied;
    if (!t.mayBorrow) return denied;
    const uint64_t cap = pool.burst + pool.deposit;
    const uint64_t left = !shareHolds(at) || t.mayTakeStock || cost > cap ? 0 : std::min(stock_, cap - cost);
    if ((!shareHolds(at) || t.share >= static_cast<int64_t>(cost)) && pool.level >= static_cast<int64_t>(cost + left)) return kBorrowed;
    return denied;
  }

  uint64_t lentOf(uint32_t index) const {
    uint64_t sum = 0;
    for (const auto& held : held_)
      if (const auto found = held.find(index); found != held.end()) sum += found->second.units;
    return sum;
  }

  bool isSpendable(uint32_t index, const Holding& h) {
    return Word{memory.bucket(index).word.load(std::memory_order_relaxed)}.epoch() == h.epoch &&
           static_cast<uint32_t>(memory.header().validUntil.load(std::memory_order_relaxed)) == h.promise;
  }

  // What holders may yet spend without asking.
  uint64_t spendable() {
    uint64_t sum = 0;
    for (const auto& held : held_)
      for (const auto& [index, h] : held)
        if (isSpendable(index, h)) sum += h.left;
    return sum;
  }

  Wide slackOf(uint32_t i) { return units(2 + reference::kGrain + slack_[i]); }

  // Whether the next request may find the level's reference out of range.
  bool isFarOff(uint32_t i) {
    auto& b = memory.bucket(i);
    const Word word{b.word.load(std::memory_order_relaxed)};
    const auto& p = b.params[word.epoch() & 1];
    const Reading r = read(p.sinceNs.load(std::memory_order_relaxed), p.rateAndBurst.load(std::memory_order_relaxed), 0);
    return word.level() < -kLevelLimit / 2 || (now_ > r.sinceNs && accrued(r.rate, now_ - r.sinceNs) > kLevelLimit / 2);
  }

  // A level that is given a new reference by the request that notices a lapse has it under the fallback.
  void actIfFarOff(uint32_t index) {
    if (leases_ && (isFarOff(index) || isFarOff(0))) actOnLapse();
  }

  // When the fallbacks begin to hold, or where anybody leases: not before this.
  uint64_t lapsesNs() const { return noticed_ ? lapsedNs_ : validUntilNs_ + 1; }

  // Somebody acts on a lapse, if there is one.
  void actOnLapse() {
    if (noticed_ || now_ <= validUntilNs_) return;
    Tab::Share none{};
    CHECK_EQ(static_cast<int>(table.allocate(&none, 1, true, clock())), static_cast<int>(kLapsed));
    notice();
  }

  // The first to act on a lapse has dated it: at once where nobody leases; where anybody does, at his own time.
  void notice() {
    const uint64_t word = memory.header().validUntil.load(std::memory_order_relaxed);
    if (noticed_ || !(word & 1)) return;
    const uint64_t atNs = word >> 1;
    CHECK_EQ(atNs, leases_ ? now_ + (now_ & 1) : validUntilNs_ + 1);
    if (leases_) lapseModel(atNs);
    noticed_ = true;
    lapsedNs_ = atNs;
    if (now_ <= atNs) advance(atNs + 1 - now_);
  }

  void lapseModel(uint64_t atNs) {
    for (auto& o : own_) o.advance(atNs);
    for (auto& [i, t] : targets) own_[i].lapse(t.fallbackRate, t.fallbackBurst);
    own_[0].lapse(decode(static_cast<uint32_t>(memory.tally(0).fallback.load(std::memory_order_relaxed))), decode(static_cast<uint32_t>(memory.tally(0).fallback.load(std::memory_order_relaxed) >> 32)));
  }

  void noteFallback(uint32_t index, uint64_t rate, uint64_t burst) {
    Target& t = targets.at(index);
    t.fallbackRate = decode(encode(rate));
    t.fallbackBurst = decode(encode(burst));
    if (!lapsed()) return;
    // What its burst gains moves over from the reservoir, as far as there are tokens under it.
    const Wide before = own_[index].level();
    own_[index].change(t.fallbackRate, t.fallbackBurst);
    const Wide core = units(1) * table.levelOf(index, now_).level;
    if (core > before) {
      const auto given = static_cast<uint64_t>((core - before) / reference::kNano);
      own_[index].give(given + 1);
    }
  }

  // No change of the control plane makes tokens; what a tick returns is bounded by the reference.
  template <class Fn>
  std::invoke_result_t<Fn> control(Fn&& change) {
    if (leases_) actOnLapse();
    // What refilled above the burst of a deposit that has expired, and is not to be seen until it is taken
    // back, counts too: nobody else has been given that burst yet.
    const Wide before = levels() + unseen();
    const auto seen = image();
    const auto result = change();
    if (!leases_) notice();
    if (!returning_) CHECK_LE(levels(), before);
    if constexpr (std::is_same_v<std::invoke_result_t<Fn>, Status>)
      // Refused: nothing moved. A settlement may round a level down.
      if (result != kOk && result != kLapsed) {
        const auto after = image();
        CHECK_EQ(after.size(), seen.size());
        for (size_t i = 0; i < seen.size(); ++i)
          if (i % 9 != 0) CHECK_EQ(after[i], seen[i]);
          else CHECK(after[i] <= seen[i] && after[i] + 2 >= seen[i]);
      }
    for (uint32_t i = 0; i < table.highWater(); ++i) {
      const auto epoch = Word{memory.bucket(i).word.load(std::memory_order_relaxed)}.epoch();
      slack_[i] += static_cast<uint8_t>(epoch - epochs_[i]) * 2;
      epochs_[i] = epoch;
    }
    // The reservoir gets what others had and loses what they get: its own reference starts from what it has.
    const LevelReading pool = table.levelOf(0, now_);
    own_[0].begin(now_);
    own_[0].change(pool.rate, pool.burst);
    own_[0].receive(0, 0);
    if (pool.level >= 0) own_[0].give(static_cast<uint64_t>(pool.level) + 1);
    else own_[0].take(static_cast<uint64_t>(-pool.level) - 1);
    slack_[0] = 2;
    return result;
  }

  reference::Bucket admissions_;  // charged at admission, net of refunds
  reference::Bucket everything_;  // also what was charged afterwards
  reference::Bucket spent_;       // likewise, and leases when they are spent
  std::vector<reference::Target> own_;
  std::vector<uint64_t> slack_;
  std::vector<uint8_t> epochs_;
  std::vector<uint64_t> gainedNs_;
  std::vector<Event> events_;
  std::array<Tab, kHolders> holders_;
  std::array<std::map<uint32_t, Holding>, kHolders> held_;
  uint32_t capacity_;
  uint64_t now_ = 1, validUntilNs_ = 0, admittedTokens_ = 0, stock_ = 0;
  uint64_t tickedNs_ = 1;  // when the last tick ended
  uint64_t lastTakenNs_ = 0;
  bool returning_ = false;
  bool leases_ = false;            // somebody has leased
  bool noticed_ = true;            // somebody has acted on the lapse of the last promise,
  uint64_t lapsedNs_ = 0;          // which was dated to this
};

}  // namespace foretoken
