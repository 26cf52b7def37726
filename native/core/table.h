// The bucket table over a mapped region. Requests (acquire, refund, complete) are lock-free and bounded;
// everything that moves rates, bursts or deposits is the control plane's and goes one at a time, under
// the region's writer lock, which no request ever takes.
//
// [epoch] A change of parameters writes the copy that is not in use, then swaps word and epoch in one CAS
// that also settles the level under the old parameters. A request reads word, copy, and CASes the word:
// if the epoch moved in between, its CAS fails, so no admission mixes two versions. The copies are stored
// with release and read with acquire, so whoever sees a value of the version after next also sees that
// the word has moved on. An epoch returns after 256 changes; a request would have to sleep through all of
// them and find the same level to be fooled.
//
// The atomic type is a parameter so that a test can put a scheduler between any two accesses.
#pragma once

#include <cmath>

#include "bucket.h"

namespace foretoken {

inline constexpr int kAcquireTries = 1 << 12;
inline constexpr int kPublishTries = 1 << 16;
inline constexpr int kLockTries = 1 << 22;

struct Slot {
  uint32_t index;
  uint32_t generation;
};

struct Counters {
  uint64_t admitted, admittedTokens, denied, deniedTokens, borrowedTokens;
  uint64_t completions, readBytes, writeBytes, durationNs;
};

struct Peek {
  int64_t level;
  uint64_t rate, burst, deposit, waitNs;
};

// A slot as the control plane sees it: own bucket only, whatever a limit or the reservoir would add.
struct LevelReading {
  int64_t level;
  uint64_t rate, burst, deposit;
};

struct TickResult {
  int64_t returned;   // units handed to the reservoir
  int64_t reservoir;  // its level after that
  int64_t levels;     // all levels together, the reservoir's included
};

template <template <class> class Atomic>
class Table {
 public:
  using B = Bucket<Atomic>;
  using T = Tally<Atomic>;
  using C = Completion<Atomic>;
  using H = Header<Atomic>;

  Table() noexcept = default;
  Table(H* header, B* buckets, T* tallies, C* completions, B* limits) noexcept
      : h_(header), buckets_(buckets), tallies_(tallies), completions_(completions), limits_(limits) {}

  H& header() const noexcept { return *h_; }
  double unitsPerToken() const noexcept { return std::ldexp(1.0, h_->tokenShift); }

  // ---- requests -------------------------------------------------------------------------------------

  // Takes `cost` units at `nowNs`: from the target's own bucket whole, else from the reservoir within the
  // target's share. `inLine` says that the caller is the head of those who wait, whom newcomers must not
  // overtake; its denials are not counted, because it will ask again.
  int32_t acquire(Slot slot, uint64_t cost, uint64_t nowNs, bool inLine = false) noexcept {
    if (slot.index == kReservoir || slot.index >= slots()) return kBadHandle;
    B& bucket = buckets_[slot.index];
    T& tally = tallies_[slot.index];
    __builtin_prefetch(&tally, 1);
    // acquire [slot]: pairs with the release in addTarget, so a live generation shows the slot's tallies.
    const uint64_t meta = bucket.meta.load(std::memory_order_acquire);
    if ((meta >> 32) != slot.generation || !(meta & kLive)) return kBadHandle;
    const uint64_t validUntil = validUntilAt(nowNs);
    // relaxed: a line that formed a moment ago may be missed by a moment; it is order, not safety.
    if (!inLine && tally.waitUntilNs.load(std::memory_order_relaxed) > nowNs) [[unlikely]]
      return deny(tally, cost);
    if ((meta & kHasLimit) && take(limits_[slot.index], nullptr, slot.generation, cost, nowNs, 0) != kOwn)
      return inLine ? kDenied : deny(tally, cost);

    int32_t decision = take(bucket, &tally, slot.generation, cost, nowNs, validUntil);
    if (decision == kDenied || decision == kTooLarge) {
      if (meta & kMayBorrow) {
        const int32_t own = decision;
        decision = borrow(tally, cost, nowNs, validUntil);
        if (decision == kTooLarge && own == kDenied) decision = kDenied;
      }
    }
    if (decision > 0) [[likely]] {
      // relaxed: counters are read as totals; nothing else is inferred from their order.
      tally.admitted.fetch_add(1, std::memory_order_relaxed);
      tally.admittedTokens.fetch_add(cost, std::memory_order_relaxed);
      if (h_->largestCost.load(std::memory_order_relaxed) < cost) [[unlikely]] raiseLargestCost(cost);
      return decision;
    }
    if (meta & kHasLimit) giveBack(limits_[slot.index], nullptr, cost, nowNs, 0);
    if (decision == kBadHandle) return decision;
    if (!inLine) deny(tally, cost);
    return decision;
  }

  // Returns tokens of an admitted request. What would lift the level above its burst is dropped and
  // counted, and no more comes back than was ever charged.
  int32_t refund(Slot slot, uint64_t units, uint64_t nowNs) noexcept {
    if (!isLive(slot)) return kBadHandle;
    T& tally = tallies_[slot.index];
    // relaxed: see acquire.
    uint64_t charged = tally.admittedTokens.load(std::memory_order_relaxed);
    for (int tries = 0; tries < kAcquireTries; ++tries) {
      if (charged < units) return kBadCost;
      if (tally.admittedTokens.compare_exchange_weak(charged, charged - units, std::memory_order_relaxed,
                                                     std::memory_order_relaxed)) {
        const uint64_t dropped = giveBack(buckets_[slot.index], &tally, units, nowNs, validUntilAt(nowNs));
        if (buckets_[slot.index].meta.load(std::memory_order_acquire) & kHasLimit)
          giveBack(limits_[slot.index], nullptr, units, nowNs, 0);
        if (dropped) h_->refundsDropped.fetch_add(dropped, std::memory_order_relaxed);
        return kOwn;
      }
    }
    return kContended;
  }

  // Charges what a request turned out to cost beyond its estimate. It was served already, so the charge
  // cannot be denied: it leaves a debt, at most one burst deep. Returns the units really charged.
  uint64_t charge(Slot slot, uint64_t units, uint64_t nowNs) noexcept {
    if (!isLive(slot)) return 0;
    B& bucket = buckets_[slot.index];
    T& tally = tallies_[slot.index];
    const uint64_t validUntil = validUntilAt(nowNs);
    for (int tries = 0; tries < kAcquireTries; ++tries) {
      Word word{bucket.word.load(std::memory_order_acquire)};
      const Evaluation e = evaluate(word.level(), readParams(bucket, word.epoch()), nowNs, validUntil,
                                    tally.fallback.load(std::memory_order_relaxed));
      const int64_t floor = -static_cast<int64_t>(e.cap);
      const auto taken = std::min(static_cast<int64_t>(std::min<uint64_t>(units, kLevelLimit)), std::max<int64_t>(0, e.level - floor));
      if (swapLevel(bucket, word, e.level - taken - e.accrued)) {
        tally.admittedTokens.fetch_add(static_cast<uint64_t>(taken), std::memory_order_relaxed);
        return static_cast<uint64_t>(taken);
      }
    }
    return 0;
  }

  int32_t complete(Slot slot, uint64_t readBytes, uint64_t writeBytes, uint64_t durationNs) noexcept {
    if (!isLive(slot)) return kBadHandle;
    C& c = completions_[slot.index];
    // relaxed: totals, as in acquire.
    c.count.fetch_add(1, std::memory_order_relaxed);
    if (readBytes) c.readBytes.fetch_add(readBytes, std::memory_order_relaxed);
    if (writeBytes) c.writeBytes.fetch_add(writeBytes, std::memory_order_relaxed);
    c.durationNs.fetch_add(durationNs, std::memory_order_relaxed);
    return kOwn;
  }

  // What the target could take now, and how long until it could take `cost`. Changes nothing.
  int32_t peek(Slot slot, uint64_t cost, uint64_t nowNs, Peek& out) const noexcept {
    if (slot.index != kReservoir && !isLive(slot)) return kBadHandle;
    const LevelReading own = levelOf(slot.index, nowNs);
    out = {own.level, own.rate, own.burst, own.deposit, nsUntil(own.level, static_cast<int64_t>(cost), own.rate, own.burst + own.deposit)};
    const B& bucket = buckets_[slot.index];
    const uint64_t meta = bucket.meta.load(std::memory_order_acquire);
    if (slot.index != kReservoir && (meta & kMayBorrow) && out.waitNs > 0) {
      // Whoever may borrow can also be served by the reservoir; its share is set anew every tick.
      Peek reservoir{};
      peek({kReservoir, 0}, cost, nowNs, reservoir);
      out.waitNs = std::min(out.waitNs, reservoir.waitNs);
    }
    if (meta & kHasLimit) {
      const B& limit = limits_[slot.index];
      const Word lw{limit.word.load(std::memory_order_acquire)};
      const Reading lp = readParams(limit, lw.epoch());
      const Evaluation le = evaluate(lw.level(), lp, nowNs, 0, 0);
      out.level = std::min(out.level, le.level);
      out.waitNs = std::max(out.waitNs, nsUntil(le.level, static_cast<int64_t>(cost), lp.rate, le.cap));
    }
    return kOwn;
  }

  // The most a request of this target may ever cost at once under the present parameters.
  uint64_t largestAdmissible(Slot slot, uint64_t nowNs) const noexcept {
    uint64_t most = capOf(slot.index, nowNs);
    const uint64_t meta = buckets_[slot.index].meta.load(std::memory_order_acquire);
    if (meta & kMayBorrow) most = std::max(most, capOf(kReservoir, nowNs));
    if (meta & kHasLimit) {
      const B& limit = limits_[slot.index];
      most = std::min(most, readParams(limit, Word{limit.word.load(std::memory_order_acquire)}.epoch()).burst);
    }
    return most;
  }

  bool isLive(Slot slot) const noexcept {
    if (slot.index == kReservoir || slot.index >= slots()) return false;
    const uint64_t meta = buckets_[slot.index].meta.load(std::memory_order_acquire);
    return (meta >> 32) == slot.generation && (meta & kLive);
  }

  void waitInLine(uint32_t index, uint64_t untilNs) noexcept {
    // relaxed: see acquire.
    tallies_[index].waitUntilNs.store(untilNs, std::memory_order_relaxed);
  }

  Counters counters(uint32_t index) const noexcept {
    const T& t = tallies_[index];
    const C& c = completions_[index];
    constexpr auto relaxed = std::memory_order_relaxed;  // totals, as in acquire
    return {t.admitted.load(relaxed), t.admittedTokens.load(relaxed), t.denied.load(relaxed), t.deniedTokens.load(relaxed),
            t.borrowedTokens.load(relaxed), c.count.load(relaxed), c.readBytes.load(relaxed), c.writeBytes.load(relaxed),
            c.durationNs.load(relaxed)};
  }

  LevelReading levelOf(uint32_t index, uint64_t nowNs) const noexcept {
    const Word word{buckets_[index].word.load(std::memory_order_acquire)};
    const Reading p = readParams(buckets_[index], word.epoch());
    const uint64_t fallback = tallies_[index].fallback.load(std::memory_order_relaxed);
    const Evaluation e = evaluate(word.level(), p, nowNs, peekValidUntil(), fallback);
    const bool lapsed = nowNs > peekValidUntil() && p.sinceNs <= peekValidUntil();
    if (lapsed) return {e.level, rateOf(fallback), e.cap, 0};
    return {e.level, p.rate, p.burst, nowNs < p.depositUntilNs ? p.deposit : 0};
  }

  void prefetch(uint32_t index) const noexcept {
    if (index >= slots()) return;
    __builtin_prefetch(&buckets_[index], 1);
    __builtin_prefetch(&tallies_[index], 1);
  }

  uint64_t metaOf(uint32_t index) const noexcept { return buckets_[index].meta.load(std::memory_order_acquire); }
  uint32_t highWater() const noexcept { return h_->highWater.load(std::memory_order_acquire); }
  uint32_t slots() const noexcept { return h_->capacity + 1; }

  // ---- the control plane ----------------------------------------------------------------------------

  // Lays out the reservoir with all of the resource's rate and burst, full. Once, before `ready`.
  void initialise(uint64_t rate, uint64_t burst, uint64_t nowNs) noexcept {
    constexpr auto relaxed = std::memory_order_relaxed;  // published by Header::ready
    h_->resourceRate.store(rate, relaxed);
    h_->resourceBurst.store(burst, relaxed);
    h_->validUntil.store(1, relaxed);
    h_->highWater.store(1, relaxed);
    B& reservoir = buckets_[kReservoir];
    const uint32_t rateCode = encode(rate), burstCode = encode(burst);
    reservoir.params[0].sinceNs.store(nowNs, relaxed);
    reservoir.params[0].rateAndBurst.store(join(rateCode, burstCode), relaxed);
    reservoir.word.store(pack(static_cast<int64_t>(decode(burstCode)), 0).bits, relaxed);
    reservoir.meta.store(kLive, relaxed);
    tallies_[kReservoir].fallback.store(join(rateCode, burstCode), relaxed);
  }

  template <class Clock>
  Status addTarget(uint64_t flags, Slot& out, Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock) return kBusy;
    uint32_t index = h_->highWater.load(std::memory_order_relaxed);
    if (index < slots()) {
      h_->highWater.store(index + 1, std::memory_order_release);
    } else {
      // The queue of freed slots is first in, first out, so each rests for as long as possible.
      index = h_->freeHead.load(std::memory_order_relaxed);
      if (index == 0) return kFull;
      const auto next = static_cast<uint32_t>(tallies_[index].borrowShare.load(std::memory_order_relaxed));
      h_->freeHead.store(next, std::memory_order_relaxed);
      if (next == 0) h_->freeTail.store(0, std::memory_order_relaxed);
    }
    resetTally(index);
    const uint32_t generation = nextGeneration(static_cast<uint32_t>(buckets_[index].meta.load(std::memory_order_relaxed) >> 32));
    // The slot is empty: rate, burst and level are zero since it was made or freed.
    const Status published = publish(index, clock, [](const Evaluation&, const Reading&, Change& c) {
      c = Change{0, 0, 0, 0, 0};
      return true;
    });
    if (published != kOk) return published;
    // release [slot]
    buckets_[index].meta.store((static_cast<uint64_t>(generation) << 32) | (flags & kMayBorrow) | kLive, std::memory_order_release);
    h_->liveTargets.fetch_add(1, std::memory_order_relaxed);
    out = {index, generation};
    return kOk;
  }

  // Frees a slot. What it held goes to the reservoir; requests with its handle get kBadHandle from now on.
  template <class Clock>
  Status removeTarget(Slot slot, Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock) return kBusy;
    if (!isLive(slot)) return kStale;
    buckets_[slot.index].meta.store(static_cast<uint64_t>(slot.generation) << 32, std::memory_order_release);
    int64_t freed = 0;
    uint64_t rate = 0, burst = 0;
    const Status emptied = publish(slot.index, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
      freed = e.level;
      rate = p.rate;
      burst = p.burst + p.deposit;
      c = Change{0, 0, 0, 0, 0};
      return true;
    });
    if (emptied != kOk) return emptied;
    const uint64_t fallback = tallies_[slot.index].fallback.load(std::memory_order_relaxed);
    const uint64_t otherRates = h_->fallbackRates.load(std::memory_order_relaxed) - rateOf(fallback);
    const uint64_t otherBursts = h_->fallbackBursts.load(std::memory_order_relaxed) - burstOf(fallback);
    tallies_[slot.index].fallback.store(0, std::memory_order_relaxed);
    h_->fallbackRates.store(otherRates, std::memory_order_relaxed);
    h_->fallbackBursts.store(otherBursts, std::memory_order_relaxed);
    tallies_[kReservoir].fallback.store(join(encode(less(h_->resourceRate.load(std::memory_order_relaxed), otherRates)),
                                             encode(less(h_->resourceBurst.load(std::memory_order_relaxed), otherBursts))),
                                        std::memory_order_relaxed);
    growReservoir(rate, burst, std::max<int64_t>(freed, 0), clock);
    h_->tickAdmitted.fetch_sub(tallies_[slot.index].admittedTokens.load(std::memory_order_relaxed), std::memory_order_relaxed);
    h_->liveTargets.fetch_sub(1, std::memory_order_relaxed);
    tallies_[slot.index].borrowShare.store(0, std::memory_order_relaxed);
    const uint32_t tail = h_->freeTail.load(std::memory_order_relaxed);
    if (tail == 0) h_->freeHead.store(slot.index, std::memory_order_relaxed);
    else tallies_[tail].borrowShare.store(slot.index, std::memory_order_relaxed);
    h_->freeTail.store(slot.index, std::memory_order_relaxed);
    return kOk;
  }

  // Sets the target's ceiling; both zero removes it. Raising a ceiling grants time, not tokens.
  template <class Clock>
  Status setLimit(Slot slot, uint64_t rate, uint64_t burst, Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock) return kBusy;
    if (!isLive(slot)) return kStale;
    B& bucket = buckets_[slot.index];
    const uint64_t meta = bucket.meta.load(std::memory_order_relaxed);
    if (burst == 0) {
      bucket.meta.store(meta & ~kHasLimit, std::memory_order_release);
      return kOk;
    }
    const bool fresh = !(meta & kHasLimit);
    const Status published = publishBucket(limits_[slot.index], nullptr, clock, [&](const Evaluation& e, const Reading&, Change& c) {
      const uint32_t burstCode = encode(burst);
      c = Change{encode(rate), burstCode, 0, 0, fresh ? static_cast<int64_t>(decode(burstCode)) : e.level};
      return true;
    });
    if (published != kOk) return published;
    bucket.meta.store(meta | kHasLimit, std::memory_order_release);
    return kOk;
  }

  void setMayBorrow(Slot slot, bool may) noexcept {
    B& bucket = buckets_[slot.index];
    const uint64_t meta = bucket.meta.load(std::memory_order_relaxed);
    bucket.meta.store(may ? meta | kMayBorrow : meta & ~kMayBorrow, std::memory_order_release);
  }

  // What one slot is to have; `reservoirTakesRest` makes slot 0 whatever the others leave.
  struct Share {
    uint32_t rate, burst;  // codes
  };

  // Publishes an allocation of all slots below `count`. Refused whole, changing nothing, when it breaks a
  // sum. Decreases go first, so the sums hold at every moment in between; tokens that a lower burst cuts
  // off move to the reservoir as far as it has room.
  template <class Clock>
  Status allocate(Share* shares, uint32_t count, bool reservoirTakesRest, Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock) return kBusy;
    if (count == 0 || count > highWater()) return kInvalid;
    if (lapsedAt(clock())) return kLapsed;
    uint64_t rates = 0, bursts = 0, deposits = 0;
    const uint64_t maxRate = h_->resourceRate.load(std::memory_order_relaxed);
    const uint64_t maxBurst = h_->resourceBurst.load(std::memory_order_relaxed);
    for (uint32_t i = 0; i < highWater(); ++i) {
      const Reading p = current(i);
      deposits += p.deposit;
      if (i < count && !(buckets_[i].meta.load(std::memory_order_relaxed) & kLive)) shares[i] = {0, 0};
      if (i == kReservoir && reservoirTakesRest) continue;
      rates += i < count ? decode(shares[i].rate) : p.rate;
      bursts += i < count ? decode(shares[i].burst) : p.burst;
      if (rates > maxRate) return kOverRate;
      if (bursts > maxBurst) return kOverBurst;
    }
    if (bursts + deposits > maxBurst) return kOverBurst;
    if (reservoirTakesRest) shares[kReservoir] = {encode(maxRate - rates), encode(maxBurst - bursts - deposits)};

    int64_t freed = 0;
    for (uint32_t i = 0; i < count; ++i) {
      const Reading p = current(i);
      const uint32_t lowRate = encode(std::min(p.rate, decode(shares[i].rate)));
      const uint32_t lowBurst = encode(std::min(p.burst, decode(shares[i].burst)));
      if (decode(lowRate) == p.rate && decode(lowBurst) == p.burst) continue;
      int64_t cut = 0;
      const Status s = publish(i, clock, [&](const Evaluation& e, const Reading& now, Change& c) {
        c = keepDeposit(now, lowRate, lowBurst, e.level);
        const auto most = static_cast<int64_t>(decode(lowBurst) + now.deposit);
        cut = std::max<int64_t>(0, e.level - most);
        return true;
      });
      if (s != kOk) return s;
      freed += cut;
    }
    for (uint32_t i = 0; i < count; ++i) {
      const Reading p = current(i);
      if (decode(shares[i].rate) == p.rate && decode(shares[i].burst) == p.burst) continue;
      const Status s = publish(i, clock, [&](const Evaluation& e, const Reading& now, Change& c) {
        c = keepDeposit(now, shares[i].rate, shares[i].burst, e.level);
        return true;
      });
      if (s != kOk) return s;
    }
    if (freed > 0) giveBack(buckets_[kReservoir], &tallies_[kReservoir], static_cast<uint64_t>(freed), clock(), peekValidUntil());
    return kOk;
  }

  // Moves up to `units` of level and burst from the reservoir into a bucket, to expire at `untilNs`. Adds
  // to a deposit that is already there and extends it. Returns the units moved.
  template <class Clock>
  uint64_t deposit(Slot slot, uint64_t units, uint64_t untilNs, Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock || !isLive(slot) || units == 0 || lapsedAt(clock())) return 0;
    reclaimLocked(slot.index, false, clock);
    const Reading before = current(slot.index);
    uint64_t moved = 0;
    uint32_t code = 0;
    publish(kReservoir, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
      const uint64_t most = std::min({units, p.burst, static_cast<uint64_t>(std::max<int64_t>(e.level, 0))});
      code = encode(before.deposit + most);
      moved = decode(code) > before.deposit ? decode(code) - before.deposit : 0;
      if (moved == 0) return false;
      c = Change{encode(p.rate), encode(p.burst - moved), 0, 0, e.level - static_cast<int64_t>(moved)};
      return true;
    });
    if (moved == 0) return 0;
    const uint64_t until = std::max(untilNs, before.deposit ? before.depositUntilNs : 0);
    const Status s = publish(slot.index, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
      c = Change{encode(p.rate), encode(p.burst), code, until, e.level + static_cast<int64_t>(moved)};
      return true;
    });
    return s == kOk ? moved : 0;
  }

  // Takes back deposits: the expired ones, or this one at once. What was not used returns to the
  // reservoir, and the burst with it. Returns the units of level that came back.
  template <class Clock>
  int64_t reclaimExpired(Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock) return 0;
    int64_t back = 0;
    for (uint32_t i = 1; i < highWater(); ++i)
      if (current(i).deposit) back += reclaimLocked(i, false, clock);
    return back;
  }

  template <class Clock>
  int64_t withdraw(Slot slot, Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock || !isLive(slot)) return 0;
    return reclaimLocked(slot.index, true, clock);
  }

  // Work conservation: hands what idle buckets overflowed since the last tick to the reservoir.
  //
  // The bound that keeps the resource law: with M all levels after the last tick, the resource as a single
  // bucket would now hold at least min(burst, M + rate * dt) - admitted. What is handed over may not lift
  // the sum of levels above that. Levels are read before counters, so a request in between counts against
  // the bound; one that has taken its tokens but not yet counted them is covered by the largest cost seen,
  // once for every thread.
  template <class Clock>
  TickResult tick(uint32_t threads, Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock) return {};
    reclaimAllExpired(clock);
    const uint64_t now = clock();
    const uint64_t validUntil = peekValidUntil();
    const uint32_t used = highWater();
    int64_t levels = 0, overflow = 0;
    for (uint32_t i = 0; i < used; ++i) {
      B& bucket = buckets_[i];
      Word word{bucket.word.load(std::memory_order_acquire)};
      const Evaluation e = evaluate(word.level(), readParams(bucket, word.epoch()), now, validUntil,
                                    tallies_[i].fallback.load(std::memory_order_relaxed));
      levels += e.level;
      // A lost race means that the bucket is in use, so it has nothing to give.
      if (e.overflow > 0 && swapLevel(bucket, word, e.level - e.accrued) && i != kReservoir) overflow += e.overflow;
    }
    uint64_t admitted = 0;
    for (uint32_t i = 0; i < used; ++i) admitted += tallies_[i].admittedTokens.load(std::memory_order_relaxed);

    const uint64_t last = h_->tickNs.load(std::memory_order_relaxed);
    const int64_t inflow = accrued(h_->resourceRate.load(std::memory_order_relaxed), now > last ? now - last : 0);
    const auto burst = static_cast<int64_t>(h_->resourceBurst.load(std::memory_order_relaxed));
    const auto taken = static_cast<int64_t>(admitted - h_->tickAdmitted.load(std::memory_order_relaxed));
    const int64_t inFlight = static_cast<int64_t>(threads) * static_cast<int64_t>(h_->largestCost.load(std::memory_order_relaxed));
    const int64_t bound = last == 0 ? levels : std::min(burst, h_->tickLevels.load(std::memory_order_relaxed) + inflow) - taken - inFlight;
    int64_t returned = std::max<int64_t>(0, std::min(overflow, bound - levels));
    if (returned > 0)
      returned -= static_cast<int64_t>(giveBack(buckets_[kReservoir], &tallies_[kReservoir], static_cast<uint64_t>(returned), now, validUntil));
    h_->tickNs.store(now, std::memory_order_relaxed);
    h_->tickLevels.store(levels + returned, std::memory_order_relaxed);
    h_->tickAdmitted.store(admitted, std::memory_order_relaxed);
    Peek reservoir{};
    peek({kReservoir, 0}, 0, now, reservoir);
    return {returned, reservoir.level, levels + returned};
  }

  void setBorrowShare(uint32_t index, int64_t units) noexcept {
    // relaxed: a request that sees the old share borrows within the old share.
    tallies_[index].borrowShare.store(units, std::memory_order_relaxed);
  }

  // What holds without a controller. The reservoir's fallback is whatever the targets leave.
  template <class Clock>
  Status setFallback(Slot slot, uint64_t rate, uint64_t burst, Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock) return kBusy;
    if (!isLive(slot)) return kStale;
    return setFallbackLocked(slot.index, join(encode(rate), encode(burst)), clock);
  }

  // Fallbacks of all slots below `count` at once; entry 0 is ignored. Decreases go first.
  template <class Clock>
  Status setFallbacks(const Share* shares, uint32_t count, Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock) return kBusy;
    if (count > highWater()) return kInvalid;
    uint64_t rates = 0, bursts = 0;
    for (uint32_t i = 1; i < highWater(); ++i) {
      const uint64_t now = tallies_[i].fallback.load(std::memory_order_relaxed);
      const bool live = buckets_[i].meta.load(std::memory_order_relaxed) & kLive;
      rates += !live ? 0 : decode(i < count ? shares[i].rate : static_cast<uint32_t>(now));
      bursts += !live ? 0 : decode(i < count ? shares[i].burst : static_cast<uint32_t>(now >> 32));
    }
    if (rates > h_->resourceRate.load(std::memory_order_relaxed)) return kOverFallbackRate;
    if (bursts > h_->resourceBurst.load(std::memory_order_relaxed)) return kOverFallbackBurst;
    for (const bool raise : {false, true}) {
      for (uint32_t i = 1; i < count; ++i) {
        if (!(buckets_[i].meta.load(std::memory_order_relaxed) & kLive)) continue;
        const uint64_t now = tallies_[i].fallback.load(std::memory_order_relaxed);
        const uint64_t rate = decode(static_cast<uint32_t>(now)), burst = decode(static_cast<uint32_t>(now >> 32));
        const uint64_t wantRate = decode(shares[i].rate), wantBurst = decode(shares[i].burst);
        const uint64_t next = raise ? join(shares[i].rate, shares[i].burst)
                                    : join(encode(std::min(rate, wantRate)), encode(std::min(burst, wantBurst)));
        if (next == now) continue;
        const Status s = setFallbackLocked(i, next, clock);
        if (s != kOk) return s;
      }
    }
    return kOk;
  }

  // Says that a controller is alive until `untilNs`. If the last promise lapsed, every slot first takes on
  // its fallback parameters for good, so that nothing accrues twice; the caller then allocates anew.
  template <class Clock>
  Status extendValidity(uint64_t untilNs, bool& resumed, Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock) return kBusy;
    resumed = false;
    // acq_rel [validity]: pairs with the latch in validUntilAt.
    uint64_t old = h_->validUntil.load(std::memory_order_acquire);
    for (int tries = 0; tries < 4; ++tries) {
      if (!(old & 1) && (old >> 1) >= clock()) {
        if ((old >> 1) >= untilNs) return kOk;
        if (h_->validUntil.compare_exchange_strong(old, untilNs << 1, std::memory_order_acq_rel, std::memory_order_acquire)) return kOk;
        continue;
      }
      if (!(old & 1) && !h_->validUntil.compare_exchange_strong(old, old | 1, std::memory_order_acq_rel, std::memory_order_acquire))
        continue;
      resumed = true;
      const Status s = adoptFallbacks(clock);
      if (s != kOk) return s;
      h_->validUntil.store(untilNs << 1, std::memory_order_release);
      return kOk;
    }
    return kBusy;
  }

  // Changes the resource's limits. Refused while more is allocated than the new ones allow.
  template <class Clock>
  Status setResource(uint64_t rate, uint64_t burst, Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock) return kBusy;
    uint64_t rates = 0, bursts = 0, fallbackRates = 0, fallbackBursts = 0;
    for (uint32_t i = 1; i < highWater(); ++i) {
      const Reading p = current(i);
      rates += p.rate;
      bursts += p.burst + p.deposit;
      const uint64_t fallback = tallies_[i].fallback.load(std::memory_order_relaxed);
      fallbackRates += decode(static_cast<uint32_t>(fallback));
      fallbackBursts += decode(static_cast<uint32_t>(fallback >> 32));
    }
    if (rates > rate) return kOverRate;
    if (bursts > burst) return kOverBurst;
    if (fallbackRates > rate) return kOverFallbackRate;
    if (fallbackBursts > burst) return kOverFallbackBurst;
    const uint32_t newRate = encode(rate - rates), newBurst = encode(burst - bursts);
    const Status s = publish(kReservoir, clock, [&](const Evaluation& e, const Reading&, Change& c) {
      c = Change{newRate, newBurst, 0, 0, e.level};
      return true;
    });
    if (s != kOk) return s;
    h_->resourceRate.store(rate, std::memory_order_relaxed);
    h_->resourceBurst.store(burst, std::memory_order_relaxed);
    tallies_[kReservoir].fallback.store(join(encode(rate - fallbackRates), encode(burst - fallbackBursts)), std::memory_order_relaxed);
    return kOk;
  }

  // Sums over all slots, for whoever checks the laws: {rates, bursts with deposits, fallback rates, bursts}.
  void sums(uint64_t out[4]) const noexcept {
    out[0] = out[1] = out[2] = out[3] = 0;
    for (uint32_t i = 0; i < highWater(); ++i) {
      const Reading p = current(i);
      out[0] += p.rate;
      out[1] += p.burst + p.deposit;
      const uint64_t fallback = tallies_[i].fallback.load(std::memory_order_relaxed);
      out[2] += decode(static_cast<uint32_t>(fallback));
      out[3] += decode(static_cast<uint32_t>(fallback >> 32));
    }
  }

 private:
  struct Change {
    uint32_t rate, burst, deposit;  // codes
    uint64_t depositUntilNs;
    int64_t level;
  };

  class Lock {
   public:
    explicit Lock(Table& table) noexcept : table_(table), held_(false) {
      for (int tries = 0; tries < kLockTries && !held_; ++tries) {
        uint64_t free = 0;
        // acquire/release [writer]: one writer's changes are whole for the next.
        held_ = table_.h_->writerLock.compare_exchange_weak(free, 1, std::memory_order_acquire, std::memory_order_relaxed);
        if (!held_) Pause();
      }
    }
    ~Lock() {
      if (held_) table_.h_->writerLock.store(0, std::memory_order_release);
    }
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
    explicit operator bool() const noexcept { return held_; }

   private:
    static void Pause() noexcept {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    Table& table_;
    bool held_;
  };

  // 29 bits, so that generation and slot fit a double's integers; never 0, which is a slot never used.
  static constexpr uint32_t nextGeneration(uint32_t generation) noexcept {
    const uint32_t next = (generation + 1) & ((1u << 29) - 1);
    return next ? next : 1;
  }

  static constexpr uint64_t less(uint64_t a, uint64_t b) noexcept { return a > b ? a - b : 0; }
  static constexpr uint64_t rateOf(uint64_t pair) noexcept { return decode(static_cast<uint32_t>(pair)); }
  static constexpr uint64_t burstOf(uint64_t pair) noexcept { return decode(static_cast<uint32_t>(pair >> 32)); }

  static constexpr uint64_t lower(uint64_t a, uint64_t b) noexcept {
    return join(encode(std::min(rateOf(a), rateOf(b))), encode(std::min(burstOf(a), burstOf(b))));
  }

  static constexpr uint64_t join(uint32_t rate, uint32_t burst) noexcept {
    return (static_cast<uint64_t>(burst) << 32) | rate;
  }

  static constexpr Change keepDeposit(const Reading& p, uint32_t rate, uint32_t burst, int64_t level) noexcept {
    return {rate, burst, encode(p.deposit), p.depositUntilNs, level};
  }

  static Reading readParams(const B& bucket, uint8_t epoch) noexcept {
    const Params<Atomic>& p = bucket.params[epoch & 1];
    // acquire [epoch]
    const uint64_t since = p.sinceNs.load(std::memory_order_acquire);
    const uint64_t rateAndBurst = p.rateAndBurst.load(std::memory_order_acquire);
    return read(since, rateAndBurst, p.deposit.load(std::memory_order_acquire));
  }

  Reading current(uint32_t index) const noexcept {
    const B& bucket = buckets_[index];
    return readParams(bucket, Word{bucket.word.load(std::memory_order_acquire)}.epoch());
  }

  uint64_t capOf(uint32_t index, uint64_t nowNs) const noexcept {
    const Reading p = current(index);
    const uint64_t validUntil = peekValidUntil();
    if (nowNs <= validUntil || p.sinceNs > validUntil) return p.capAt(nowNs);
    return decode(static_cast<uint32_t>(tallies_[index].fallback.load(std::memory_order_relaxed) >> 32));
  }

  uint64_t peekValidUntil() const noexcept { return h_->validUntil.load(std::memory_order_acquire) >> 1; }

  // [validity] Before a request acts on a promise that has lapsed it makes the lapse stick, so the promise
  // can no longer be extended as if nothing had happened: extendValidity's CAS would fail.
  uint64_t validUntilAt(uint64_t nowNs) noexcept {
    uint64_t valid = h_->validUntil.load(std::memory_order_acquire);
    if (!(valid & 1) && (valid >> 1) < nowNs) [[unlikely]]
      if (h_->validUntil.compare_exchange_strong(valid, valid | 1, std::memory_order_acq_rel, std::memory_order_acquire)) valid |= 1;
    return valid >> 1;
  }

  static bool swapLevel(B& bucket, Word& word, int64_t stored) noexcept {
    // acq_rel [epoch]: a winner must have read the version the word names, and the next reader must not see
    // an older one. On failure the caller reads everything anew.
    return bucket.word.compare_exchange_weak(word.bits, pack(stored, word.epoch()).bits, std::memory_order_acq_rel,
                                             std::memory_order_acquire);
  }

  int32_t take(B& bucket, T* tally, uint32_t generation, uint64_t cost, uint64_t nowNs, uint64_t validUntil) noexcept {
    Word word{bucket.word.load(std::memory_order_acquire)};
    for (int tries = 0; tries < kAcquireTries; ++tries) {
      const Reading p = readParams(bucket, word.epoch());
      const Evaluation e = evaluate(word.level(), p, nowNs, validUntil, tally ? tally->fallback.load(std::memory_order_relaxed) : 0);
      if (e.level < static_cast<int64_t>(cost)) {
        // A reading that was overtaken says nothing: only a denial under the present version counts.
        const Word again{bucket.word.load(std::memory_order_acquire)};
        if (again.epoch() == word.epoch()) return cost > e.cap ? kTooLarge : kDenied;
        word = again;
        continue;
      }
      const int64_t stored = e.level - static_cast<int64_t>(cost) - e.accrued;
      if (stored < -2 * kLevelLimit) [[unlikely]] return kContended;
      // The slot may have been freed since its generation was checked: then its word has moved, or its
      // level is what the next owner must not lose. Checked on a word that was read before.
      if (tally && (bucket.meta.load(std::memory_order_acquire) >> 32) != generation) [[unlikely]] return kBadHandle;
      if (swapLevel(bucket, word, stored)) {
        if (stored < -kLevelLimit) [[unlikely]] reanchor(bucket, tally, nowNs, validUntil);
        return kOwn;
      }
    }
    return kContended;
  }

  int32_t borrow(T& tally, uint64_t cost, uint64_t nowNs, uint64_t validUntil) noexcept {
    const auto wanted = static_cast<int64_t>(cost);
    // Without a controller nobody divides the reservoir: it is first come, within the resource's limit.
    const bool shared = nowNs <= validUntil;
    if (shared) {
      // relaxed: the share is a budget of its own; the reservoir's word decides.
      int64_t share = tally.borrowShare.load(std::memory_order_relaxed);
      for (int tries = 0;; ++tries) {
        if (share < wanted || tries == kAcquireTries) return cost > capOf(kReservoir, nowNs) ? kTooLarge : kDenied;
        if (tally.borrowShare.compare_exchange_weak(share, share - wanted, std::memory_order_relaxed, std::memory_order_relaxed)) break;
      }
    }
    const int32_t decision = take(buckets_[kReservoir], &tallies_[kReservoir], 0, cost, nowNs, validUntil);
    if (decision == kOwn) {
      tally.borrowedTokens.fetch_add(cost, std::memory_order_relaxed);
      return kBorrowed;
    }
    if (shared) tally.borrowShare.fetch_add(wanted, std::memory_order_relaxed);
    return decision;
  }

  // Adds up to `units`; returns what found no room. A bucket under contention keeps trying within a bound,
  // and tokens that cannot be placed are lost, never doubled.
  uint64_t giveBack(B& bucket, T* tally, uint64_t units, uint64_t nowNs, uint64_t validUntil) noexcept {
    Word word{bucket.word.load(std::memory_order_acquire)};
    for (int tries = 0; tries < kAcquireTries; ++tries) {
      const Evaluation e = evaluate(word.level(), readParams(bucket, word.epoch()), nowNs, validUntil,
                                    tally ? tally->fallback.load(std::memory_order_relaxed) : 0);
      const int64_t room = std::max<int64_t>(0, static_cast<int64_t>(e.cap) - e.level);
      const int64_t added = std::min<int64_t>(room, static_cast<int64_t>(std::min<uint64_t>(units, kLevelLimit)));
      if (added == 0) {
        const Word again{bucket.word.load(std::memory_order_acquire)};
        if (again.bits == word.bits) return units;
        word = again;
        continue;
      }
      if (swapLevel(bucket, word, e.level + added - e.accrued)) return units - static_cast<uint64_t>(added);
    }
    return units;
  }

  int32_t deny(T& tally, uint64_t cost) noexcept {
    tally.denied.fetch_add(1, std::memory_order_relaxed);
    tally.deniedTokens.fetch_add(cost, std::memory_order_relaxed);
    return kDenied;
  }

  void raiseLargestCost(uint64_t cost) noexcept {
    uint64_t seen = h_->largestCost.load(std::memory_order_relaxed);
    while (seen < cost && !h_->largestCost.compare_exchange_weak(seen, cost, std::memory_order_relaxed, std::memory_order_relaxed)) {
    }
  }

  // Starts a new epoch with the same parameters, because the level has wandered far from its reference.
  // Happens after days of full load in one epoch; whoever finds the lock taken leaves it to the next.
  void reanchor(B& bucket, T* tally, uint64_t nowNs, uint64_t validUntil) noexcept {
    uint64_t free = 0;
    if (!h_->writerLock.compare_exchange_strong(free, 1, std::memory_order_acquire, std::memory_order_relaxed)) return;
    // A lapsed version must stay what it is until a controller adopts it.
    if (nowNs <= validUntil || readParams(bucket, Word{bucket.word.load(std::memory_order_acquire)}.epoch()).sinceNs > validUntil)
      publishBucket(bucket, tally, [nowNs] { return nowNs; }, [](const Evaluation& e, const Reading& p, Change& c) {
        c = keepDeposit(p, encode(p.rate), encode(p.burst), e.level);
        return true;
      });
    h_->writerLock.store(0, std::memory_order_release);
  }

  // [epoch] One change of parameters: settle under the old version, write the other copy, swap. The clock
  // is read after the word, so no request that the word contains happened later than the change.
  template <class Clock, class Fn>
  Status publishBucket(B& bucket, T* tally, Clock&& clock, Fn&& decide) noexcept {
    for (int tries = 0; tries < kPublishTries; ++tries) {
      Word word{bucket.word.load(std::memory_order_acquire)};
      const Reading p = readParams(bucket, word.epoch());
      const uint64_t now = std::max(clock(), p.sinceNs);
      const uint64_t validUntil = tally ? peekValidUntil() : 0;
      const Evaluation e = evaluate(word.level(), p, now, validUntil, tally ? tally->fallback.load(std::memory_order_relaxed) : 0);
      Change c{};
      if (!decide(e, p, c)) return kInvalid;
      uint64_t expiry = 0;
      if (c.deposit && c.depositUntilNs > now) expiry = std::min<uint64_t>((c.depositUntilNs - now) >> kExpiryShift, UINT32_MAX);
      const auto epoch = static_cast<uint8_t>(word.epoch() + 1);
      const int64_t most = static_cast<int64_t>(decode(c.burst) + (expiry ? decode(c.deposit) : 0));
      Params<Atomic>& next = bucket.params[epoch & 1];
      // release [epoch]
      next.sinceNs.store(now, std::memory_order_release);
      next.rateAndBurst.store(join(c.rate, c.burst), std::memory_order_release);
      next.deposit.store((expiry << 32) | c.deposit, std::memory_order_release);
      const uint64_t bits = pack(std::min(c.level, most), epoch).bits;
      if (bucket.word.compare_exchange_strong(word.bits, bits, std::memory_order_acq_rel, std::memory_order_acquire)) return kOk;
    }
    return kBusy;
  }

  template <class Clock, class Fn>
  Status publish(uint32_t index, Clock&& clock, Fn&& decide) noexcept {
    return publishBucket(buckets_[index], &tallies_[index], clock, decide);
  }

  template <class Clock>
  void growReservoir(uint64_t rate, uint64_t burst, int64_t level, Clock&& clock) noexcept {
    publish(kReservoir, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
      c = Change{encode(p.rate + rate), encode(p.burst + burst), 0, 0, e.level + level};
      return true;
    });
  }

  // What lies above the burst is what is left of the deposit. If it expired a while ago, refill since then
  // counts as deposit too, up to its amount: the burst under it had not been given to anyone else.
  template <class Clock>
  int64_t reclaimLocked(uint32_t index, bool early, Clock&& clock) noexcept {
    const Reading p = current(index);
    if (p.deposit == 0 || (!early && clock() < p.depositUntilNs)) return 0;
    int64_t unused = 0;
    const Status s = publish(index, clock, [&](const Evaluation& e, const Reading& now, Change& c) {
      unused = std::clamp<int64_t>(e.level + e.overflow - static_cast<int64_t>(now.burst), 0, static_cast<int64_t>(now.deposit));
      c = Change{encode(now.rate), encode(now.burst), 0, 0, e.level};
      return true;
    });
    if (s != kOk) return 0;
    growReservoir(0, p.deposit, unused, clock);
    return unused;
  }

  template <class Clock>
  void reclaimAllExpired(Clock&& clock) noexcept {
    for (uint32_t i = 1; i < highWater(); ++i)
      if (current(i).deposit) reclaimLocked(i, false, clock);
  }

  bool lapsedAt(uint64_t nowNs) noexcept { return validUntilAt(nowNs) < nowNs; }

  template <class Clock>
  Status setFallbackLocked(uint32_t index, uint64_t next, Clock&& clock) noexcept {
    const uint64_t old = tallies_[index].fallback.load(std::memory_order_relaxed);
    const uint64_t rest = tallies_[kReservoir].fallback.load(std::memory_order_relaxed);
    const uint64_t otherRates = h_->fallbackRates.load(std::memory_order_relaxed) - rateOf(old);
    const uint64_t otherBursts = h_->fallbackBursts.load(std::memory_order_relaxed) - burstOf(old);
    const uint64_t rate = less(h_->resourceRate.load(std::memory_order_relaxed), otherRates);
    const uint64_t burst = less(h_->resourceBurst.load(std::memory_order_relaxed), otherBursts);
    if (rateOf(next) > rate) return kOverFallbackRate;
    if (burstOf(next) > burst) return kOverFallbackBurst;
    const uint64_t left = join(encode(rate - rateOf(next)), encode(burst - burstOf(next)));
    if (lapsedAt(clock())) {
      const Status s = shift(index, next, left, clock);
      if (s != kOk) return s;
    }
    // Both are lowered before either is raised. A request in between sees less, never more.
    tallies_[kReservoir].fallback.store(lower(rest, left), std::memory_order_relaxed);
    tallies_[index].fallback.store(lower(old, next), std::memory_order_relaxed);
    tallies_[kReservoir].fallback.store(left, std::memory_order_relaxed);
    tallies_[index].fallback.store(next, std::memory_order_relaxed);
    h_->fallbackRates.store(otherRates + rateOf(next), std::memory_order_relaxed);
    h_->fallbackBursts.store(otherBursts + burstOf(next), std::memory_order_relaxed);
    return kOk;
  }

  // Without a live controller the parameters themselves are the fallback, so a change of it moves rate and
  // burst between the reservoir and a target at once, and tokens with the burst they lie under.
  template <class Clock>
  Status shift(uint32_t index, uint64_t next, uint64_t left, Clock&& clock) noexcept {
    int64_t given = 0, cut = 0;
    Status s = publish(kReservoir, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
      const uint64_t low = lower(join(encode(p.rate), encode(p.burst)), left);
      given = std::clamp<int64_t>(e.level, 0, static_cast<int64_t>(p.burst - burstOf(low)));
      c = Change{static_cast<uint32_t>(low), static_cast<uint32_t>(low >> 32), 0, 0, e.level - given};
      return true;
    });
    if (s != kOk) return s;
    s = publish(index, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
      const uint64_t low = lower(join(encode(p.rate), encode(p.burst)), next);
      cut = std::max<int64_t>(0, e.level - static_cast<int64_t>(burstOf(low)));
      c = Change{static_cast<uint32_t>(low), static_cast<uint32_t>(low >> 32), 0, 0, e.level};
      return true;
    });
    if (s != kOk) return s;
    s = publish(kReservoir, clock, [&](const Evaluation& e, const Reading&, Change& c) {
      c = Change{static_cast<uint32_t>(left), static_cast<uint32_t>(left >> 32), 0, 0, e.level + cut};
      return true;
    });
    if (s != kOk) return s;
    return publish(index, clock, [&](const Evaluation& e, const Reading&, Change& c) {
      c = Change{static_cast<uint32_t>(next), static_cast<uint32_t>(next >> 32), 0, 0, e.level + given};
      return true;
    });
  }

  // Every slot takes on its fallback parameters as its own, levels carried over, deposits ended. They hold
  // already, because the promise has lapsed, so no order is needed.
  template <class Clock>
  Status adoptFallbacks(Clock&& clock) noexcept {
    for (uint32_t i = 0; i < highWater(); ++i) {
      if (current(i).sinceNs > peekValidUntil()) continue;
      const uint64_t fallback = tallies_[i].fallback.load(std::memory_order_relaxed);
      const Status s = publish(i, clock, [&](const Evaluation& e, const Reading&, Change& c) {
        c = Change{static_cast<uint32_t>(fallback), static_cast<uint32_t>(fallback >> 32), 0, 0, e.level};
        return true;
      });
      if (s != kOk) return s;
    }
    return kOk;
  }

  void resetTally(uint32_t index) noexcept {
    T& t = tallies_[index];
    C& c = completions_[index];
    constexpr auto relaxed = std::memory_order_relaxed;  // published by the slot's new generation
    for (auto* a : {&t.admitted, &t.admittedTokens, &t.denied, &t.deniedTokens, &t.borrowedTokens, &t.fallback, &t.waitUntilNs,
                    &c.count, &c.readBytes, &c.writeBytes, &c.durationNs})
      a->store(0, relaxed);
    // Until the first tick divides the reservoir, a newcomer may draw on it like anyone.
    t.borrowShare.store(kLevelLimit, relaxed);
  }

  H* h_ = nullptr;
  B* buckets_ = nullptr;
  T* tallies_ = nullptr;
  C* completions_ = nullptr;
  B* limits_ = nullptr;
};

}  // namespace foretoken
