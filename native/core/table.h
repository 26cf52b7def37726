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

#include <time.h>

#include <cmath>

#include "bucket.h"

namespace foretoken {

inline constexpr int kAcquireTries = 1 << 12;
inline constexpr int kPublishTries = 1 << 16;
// A holder is waited for by spinning, then by napping: on a busy machine it may have been put to sleep for longer than
// any spinning lasts. After about a second whoever waits gives up. Whether it is gone is looked at every few naps.
inline constexpr int kLockSpins = 1 << 10;
inline constexpr int kLockNaps = 1 << 13;
inline constexpr int kNapsPerLook = 1 << 4;
inline constexpr long kNapNs = 100000;
// How far ahead of a request the latest time is raised, so that a busy table writes its line a few thousand times a second.
inline constexpr uint64_t kAheadNs = 250000;
inline constexpr uint64_t kLatestNs = UINT64_MAX >> 1;
// Set in a lane's owner while its leases are ended for it: numbers of processes are smaller.
inline constexpr uint64_t kReaping = uint64_t{1} << 31;

struct Slot {
  uint32_t index;
  uint32_t generation;
};

// A slot as one number.
constexpr uint64_t handleOf(Slot slot) noexcept { return static_cast<uint64_t>(slot.generation) << kIndexBits | slot.index; }

struct Counters {
  uint64_t admitted, admittedTokens, denied, deniedTokens, borrowedTokens;
  uint64_t completions, readBytes, writeBytes, durationNs;
  uint64_t passed, passedTokens, unmetered, unmeteredTokens;
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
  Status status;
};

// Who this process is to others that share the table, and how it sees them.
template <class Header>
struct Sharing {
  uint64_t self = 1;                           // stands in the writer lock while this process holds it
  bool (*isGone)(uint64_t owner) = nullptr;    // null: nobody else can be
  uint64_t (*now)(const Header&) = nullptr;
};

template <template <class> class Atomic>
class Table {
 public:
  using B = Bucket<Atomic>;
  using T = Tally<Atomic>;
  using C = Completion<Atomic>;
  using L = Line<Atomic>;
  using Row = Lane<Atomic>;
  using H = Header<Atomic>;

  // The arrays; lanes and leases begin `laneRows` and `leaseRows` elements apart.
  struct Parts {
    B* buckets;
    T* tallies;
    C* completions;
    B* limits;
    L* lines;
    Atomic<uint64_t>* tickets;  // a row of every slot for each seat
    Row* lanes;
    Atomic<uint64_t>* leases;
    Uncharged<Atomic>* uncharged;
    uint64_t laneRows, leaseRows;
  };

  Table() noexcept = default;
  Table(H* header, const Parts& parts, Sharing<H> sharing = {}) noexcept
      : h_(header), buckets_(parts.buckets), tallies_(parts.tallies), completions_(parts.completions), limits_(parts.limits), lines_(parts.lines),
        tickets_(parts.tickets), sharing_(sharing), parts_(parts) {}
  // Over a region whose header says how large it is.
  static Table at(uint8_t* base, Sharing<H> sharing) noexcept {
    auto* header = reinterpret_cast<H*>(base);
    const Offsets o = offsetsFor(header->capacity, header->areaBytes, header->directoryBytes);
    using U = Atomic<uint64_t>;
    return Table(header, {reinterpret_cast<B*>(base + o.buckets), reinterpret_cast<T*>(base + o.tallies), reinterpret_cast<C*>(base + o.completions),
                          reinterpret_cast<B*>(base + o.limits), reinterpret_cast<L*>(base + o.lines), reinterpret_cast<U*>(base + o.tickets),
                          reinterpret_cast<Row*>(base + o.lanes), reinterpret_cast<U*>(base + o.leases),
                          reinterpret_cast<Uncharged<Atomic>*>(base + o.uncharged), o.laneStride / sizeof(Row), o.leaseStride / sizeof(U)}, sharing);
  }

  H& header() const noexcept { return *h_; }
  double unitsPerToken() const noexcept { return std::ldexp(1.0, h_->tokenShift); }

  // ---- requests -------------------------------------------------------------------------------------

  // Takes `cost` units at `nowNs`: from the target's own bucket whole, else from the reservoir within the
  // target's share. In line: the caller is the head of those who wait, whom newcomers must not overtake; its denials
  // are not counted, because it will ask again. `ahead` units are left for those before it.
  //
  // [mode] In shadow everything is decided, taken and counted as it would be enforced, and who would be denied is admitted
  // all the same, without tokens; so the laws hold over what was charged, and what was not is counted apart. Off
  // takes nothing and only counts. Misuse is refused in any mode. Who reads an old mode is decided under it.
  FORETOKEN_INLINE int32_t acquire(Slot slot, uint64_t cost, uint64_t nowNs) noexcept {
    return acquirePlain(Instant{nowNs}, handleOf(slot), cost) ? kOwn : acquireAny(slot, cost, nowNs);
  }

  // The time of one request.
  struct Instant {
    uint64_t nowNs;
    // Whether a version that has been in force for `elapsed` holds now as it stands, and it is known that it is this late.
    // `elapsed` wraps where the version is later than now.
    FORETOKEN_INLINE bool covers(const H& header, Promise promise, uint64_t elapsed) const noexcept {
      return isKnown(header, nowNs) && elapsed < coveredNs(promise, nowNs);
    }
  };

  // The time of many requests, with what need not be reckoned for each of them as long as the promise is the same.
  struct Moment {
    uint64_t nowNs;
    Promise seen;
    uint64_t covered;
    FORETOKEN_INLINE bool covers(const H&, Promise promise, uint64_t elapsed) const noexcept { return promise.bits == seen.bits && elapsed < covered; }
  };

  FORETOKEN_INLINE Moment momentAt(uint64_t nowNs) const noexcept {
    // relaxed: acquirePlain reads it again, in order.
    const Promise promise{h_->validUntil.load(std::memory_order_relaxed)};
    return {nowNs, promise, isKnown(*h_, nowNs) ? coveredNs(promise, nowNs) : 0};
  }

  // The common case of acquireAny, once and without a loop: a live target without limit, line or deposit whose
  // own bucket serves the request. False says nothing but that it was not that, whatever handle and cost are. Same loads,
  // same order, same swap.
  template <class Time>
  FORETOKEN_INLINE bool acquirePlain(const Time& time, uint64_t handle, uint64_t cost) noexcept {
    H& header = *h_;
    const uint64_t index = handle & kIndexMask;
    if (index - 1 >= header.capacity) return false;  // the reservoir too
    B& bucket = buckets_[index];
    Word word{bucket.word.load(std::memory_order_acquire)};
    // acquire [slot], [lease]: after the word.
    const uint64_t meta = bucket.meta.load(std::memory_order_acquire);
    if (meta >> 32 != handle >> kIndexBits || (meta & (kLive | kHasLimit | kHasLine | kOff)) != kLive) return false;
    const Params<Atomic>& p = copyOf(bucket, word.epoch());
    // acquire [epoch]
    const uint64_t since = p.sinceNs.load(std::memory_order_acquire);
    const uint64_t rateAndBurst = p.rateAndBurst.load(std::memory_order_acquire);
    // acquire [validity]
    const Promise promise{header.validUntil.load(std::memory_order_acquire)};
    if (p.deposit.load(std::memory_order_acquire) != 0) [[unlikely]] return false;
    // seq_cst [tick]: see asOf.
    if (time.nowNs < header.tickedNs.load(std::memory_order_seq_cst)) return false;
    const uint64_t elapsed = time.nowNs - since;
    if (!time.covers(header, promise, elapsed)) [[unlikely]] return false;
    const auto rateCode = static_cast<uint32_t>(rateAndBurst), burstCode = static_cast<uint32_t>(rateAndBurst >> 32);
    int64_t inflow = 0;
    if (elapsed < kPlainNs && (rateCode >> kMantissaBits) <= kPlainExponent) [[likely]] inflow = accruedPlain(rateCode, elapsed);
    else if ((inflow = accruedAny(rateCode, elapsed)) > kLevelLimit) return false;
    auto most = static_cast<int64_t>(decode(burstCode));
    if (meta & kLeased) [[unlikely]] most -= leasesOf(static_cast<uint32_t>(index));
    // relaxed [tick]: what is larger than any before must be known before it is taken. No cost at all counts as the largest.
    if (header.largestCost.load(std::memory_order_relaxed) <= cost - 1) return false;
    // Taken from the level as it is referred to `since`, or from the cap as of now, whichever is less.
    const int64_t stored = std::min(word.level(), most - inflow) - static_cast<int64_t>(cost);
    if (stored + inflow < 0 || !swapLevel(bucket, word, stored)) return false;
    count(static_cast<uint32_t>(index), 1, cost);
    return true;
  }

  [[gnu::noinline]] int32_t acquireAny(Slot slot, uint64_t cost, uint64_t nowNs, bool inLine = false, uint64_t ahead = 0) noexcept {
    if (slot.index == kReservoir || slot.index >= slots()) return kBadHandle;
    B& bucket = buckets_[slot.index];
    // acquire [slot]: pairs with the release in addTarget, so a live generation shows the slot's tallies.
    const uint64_t meta = bucket.meta.load(std::memory_order_acquire);
    if ((meta >> 32) != slot.generation || !(meta & kLive)) return kBadHandle;
    if (meta & kOff) [[unlikely]] return admitUncharged(slot.index, meta, cost);
    const int32_t decision = judge(slot, meta, cost, nowNs, inLine, ahead);
    if (decision > 0 || decision == kBadHandle || !(meta & kShadow)) return decision;
    // Who waits counts as denied from when it draws a ticket; this one never will, or has it taken back.
    if (inLine) deny(tallies_[slot.index], cost);
    return admitUncharged(slot.index, meta, cost);
  }

  // One that costs more than can be counted in units: kTooLarge, unless nobody is denied.
  int32_t acquireBeyond(Slot slot) noexcept {
    if (!isLive(slot)) return kBadHandle;
    const uint64_t meta = buckets_[slot.index].meta.load(std::memory_order_acquire);
    return meta & (kShadow | kOff) ? admitUncharged(slot.index, meta, 0) : static_cast<int32_t>(kTooLarge);
  }

  // `acquireAny` as if enforced.
  int32_t judge(Slot slot, uint64_t meta, uint64_t cost, uint64_t nowNs, bool inLine, uint64_t ahead) noexcept {
    B& bucket = buckets_[slot.index];
    nowNs = asOf(nowNs);
    const uint64_t validUntil = validUntilAt(nowNs);
    // relaxed: a line that formed a moment ago may be missed by a moment; it is order, not safety.
    if ((meta & kHasLine) && !inLine && tallies_[slot.index].waitUntilNs.load(std::memory_order_relaxed) > nowNs) [[unlikely]]
      return deny(tallies_[slot.index], cost);
    if (meta & kHasLimit) [[unlikely]] {
      const int32_t within = take(limits_[slot.index], nullptr, kReservoir, 0, cost, nowNs, 0, ahead);
      if (within != kOwn) {
        if (!inLine) deny(tallies_[slot.index], cost);
        return within;
      }
    }

    int32_t decision = take(bucket, &tallies_[slot.index], slot.index, slot.generation, cost, nowNs, validUntil, ahead);
    if (decision == kDenied || decision == kTooLarge) {
      if (meta & kMayBorrow) {
        const int32_t own = decision;
        // The bucket of a slot that was freed a moment ago is empty too; its handle may not borrow.
        if ((bucket.meta.load(std::memory_order_acquire) >> 32) != slot.generation) [[unlikely]] return kBadHandle;
        decision = borrow(tallies_[slot.index], cost, nowNs, validUntil, ahead);
        if (decision == kTooLarge && own == kDenied) decision = kDenied;
      }
      // What has been given nothing yet says nothing about what it may come to have.
      if (decision == kTooLarge && cost <= largestAdmissible(slot, nowNs)) decision = kDenied;
    }
    if (decision > 0) {
      count(slot.index, 1, cost);
      return decision;
    }
    // The slot's next owner has a limit of its own, from which nothing was taken.
    if (decision == kBadHandle) return decision;
    if (meta & kHasLimit) giveBack(limits_[slot.index], nullptr, cost, nowNs, 0);
    if (!inLine) deny(tallies_[slot.index], cost);
    return decision;
  }

  // Returns tokens of an admitted request. Nobody knows which: what was admitted without tokens in the present mode
  // comes first, so that no refund of it makes any. What would lift the level above its burst is dropped and
  // counted, and no more comes back than was ever charged.
  int32_t refund(Slot slot, uint64_t units, uint64_t nowNs) noexcept {
    if (!isLive(slot)) return kBadHandle;
    nowNs = asOf(nowNs);
    T& tally = tallies_[slot.index];
    // relaxed: see count. What is in lanes only grows.
    uint64_t charged = tally.admittedTokens.load(std::memory_order_relaxed);
    const uint64_t inLanes = inLanesOf(slot.index).admittedTokens;
    const uint64_t meta = buckets_[slot.index].meta.load(std::memory_order_acquire);
    if (meta & (kShadow | kOff)) {
      Atomic<uint64_t>& tokens = meta & kOff ? parts_.uncharged[slot.index].unmeteredTokens : parts_.uncharged[slot.index].passedTokens;
      uint64_t seen = tokens.load(std::memory_order_relaxed);
      if (charged + inLanes + seen < units) return kBadCost;
      while (seen && !tokens.compare_exchange_weak(seen, seen - std::min(seen, units), std::memory_order_relaxed, std::memory_order_relaxed)) {
      }
      units -= std::min(seen, units);
      if (units == 0) return kOwn;
    }
    for (int tries = 0; tries < kAcquireTries; ++tries) {
      if (charged + inLanes < units) return kBadCost;
      raiseLargestCost(units);
      if (tally.admittedTokens.compare_exchange_weak(charged, charged - units, std::memory_order_release,
                                                     std::memory_order_relaxed)) {
        // release [tick]: who sees the refund counted sees it taken off.
        h_->refunded.fetch_add(units, std::memory_order_release);
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
  // cannot be denied: it leaves a debt, at most one burst deep, in the bucket and under the limit alike, so
  // that a refund of it brings back what it took from either. Returns the units really charged.
  uint64_t charge(Slot slot, uint64_t units, uint64_t nowNs) noexcept {
    if (!isLive(slot)) return 0;
    nowNs = asOf(nowNs);
    T& tally = tallies_[slot.index];
    const uint64_t meta = buckets_[slot.index].meta.load(std::memory_order_acquire);
    if (meta & kOff) {
      parts_.uncharged[slot.index].unmeteredTokens.fetch_add(units, std::memory_order_relaxed);
      return units;
    }
    const bool limited = meta & kHasLimit;
    if (limited) units = indebt(limits_[slot.index], nullptr, units, nowNs, 0);
    const uint64_t taken = indebt(buckets_[slot.index], &tally, units, nowNs, validUntilAt(nowNs));
    if (limited && taken < units) giveBack(limits_[slot.index], nullptr, units - taken, nowNs, 0);
    count(slot.index, 0, taken);
    return taken;
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
      const bool leavesStock = nowNs <= peekValidUntil() && !(tallies_[slot.index].borrowShare.load(std::memory_order_relaxed) & kMayTakeStock);
      Peek reservoir{};
      peek({kReservoir, 0}, cost + (leavesStock ? stockFor(cost, nowNs) : 0), nowNs, reservoir);
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

  // The most a request of this target may ever cost at once under the present parameters. One that has been
  // given nothing yet may come to have all of it, so nothing is too large for it for ever.
  uint64_t largestAdmissible(Slot slot, uint64_t nowNs) const noexcept {
    uint64_t most = capOf(slot.index, nowNs);
    const uint64_t meta = buckets_[slot.index].meta.load(std::memory_order_acquire);
    if (meta & kMayBorrow) most = std::max(most, capOf(kReservoir, nowNs));
    if (most == 0) most = h_->resourceBurst.load(std::memory_order_relaxed);
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

  // `nowNs` tells whether a line forms; then leases of the target end, so that nobody overtakes it.
  void waitInLine(uint32_t index, uint64_t untilNs, uint64_t nowNs) noexcept {
    // relaxed: see acquire.
    const bool forms = untilNs > nowNs && tallies_[index].waitUntilNs.load(std::memory_order_relaxed) <= nowNs;
    tallies_[index].waitUntilNs.store(untilNs, std::memory_order_relaxed);
    if (untilNs > nowNs) buckets_[index].meta.fetch_or(kHasLine, std::memory_order_release);
    else buckets_[index].meta.fetch_and(~kHasLine, std::memory_order_release);
    if (forms && leasedOf(index) > 0) reanchor(buckets_[index], &tallies_[index], nowNs);
  }

  // ---- lanes and leases -----------------------------------------------------------------------------

  // Gives this table's thread a lane for its counters and leases, if one is free or its owner is dead; without one
  // it counts in the tallies.
  bool claimLane(uint64_t nowNs) noexcept {
    for (uint32_t lane = 0; lane < kLanes && !mine_; ++lane) {
      // acquire/release [lane]: the rows as the last owner left them.
      uint64_t seen = h_->laneOwners[lane].load(std::memory_order_acquire);
      if (seen != 0 && !isLaneOrphaned(seen)) continue;
      if (!h_->laneOwners[lane].compare_exchange_strong(seen, sharing_.self, std::memory_order_acq_rel, std::memory_order_relaxed)) continue;
      uint32_t used = lanesUsed();
      while (used <= lane && !h_->lanesUsed.compare_exchange_weak(used, lane + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
      }
      lane_ = lane;
      mine_ = parts_.lanes + lane * parts_.laneRows;
      if (seen != 0) endLeases(lane, nowNs);
    }
    return mine_ != nullptr;
  }

  void releaseLane(uint64_t nowNs) noexcept {
    if (!mine_) return;
    endLeases(lane_, nowNs);
    mine_ = nullptr;
    h_->laneOwners[lane_].store(0, std::memory_order_release);
  }

  // Ends the leases of those who died with them. What they held counts as admitted.
  void reapLanes(uint64_t nowNs) noexcept {
    // All of them: one who died while it claimed its lane may have been the first to.
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      uint64_t seen = h_->laneOwners[lane].load(std::memory_order_acquire);
      if (seen == 0 || !isLaneOrphaned(seen)) continue;
      if (!h_->laneOwners[lane].compare_exchange_strong(seen, seen | kReaping, std::memory_order_acq_rel, std::memory_order_relaxed)) continue;
      endLeases(lane, nowNs);
      h_->laneOwners[lane].store(0, std::memory_order_release);
    }
  }

  struct Holding {
    uint64_t units;     // on lease
    uint64_t left;      // of these, not spent
    uint64_t requests;  // admitted from it since the last call
  };
  struct Lease {
    uint64_t units;  // on lease from now on, none of it spent
    uint8_t epoch;   // spendable while the target's word has this epoch, its slot the same generation,
    uint32_t promise;  // and Header::validUntil this low half
  };

  // Settles what this thread holds of a target and goes on with up to `want` units, or none if
  // that cannot be `least`.
  //
  // [lease] Leased tokens are taken from the level and counted as admitted at once; until they are settled everyone
  // clips the level that much below the cap. So level and leases together never exceed burst and deposit, and a lease
  // that is spent late spends nothing that was refilled meanwhile. The amount on lease is raised before tokens are
  // taken and lowered after the level was clipped under it; whoever reads a word reads the amount after it. Then either he
  // sees the amount, or his clock was read before the lease and his swap fails or refills no more than was allowed.
  //
  // It ends with the promise it was taken under, see [lapse] at promiseAt.
  //
  // A thread holds at most 1/(2 kLanes) of the cap and takes at most half of a level: all together leave
  // half of the burst to those who ask one by one. Targets with a limit or a line, or which are off, are not leased.
  int32_t lease(Slot slot, Holding held, uint64_t want, uint64_t least, uint64_t nowNs, Lease& out) noexcept {
    out = {0, 0, 0};
    if (!isLive(slot)) return kBadHandle;
    if (!mine_) return kDenied;
    nowNs = asOf(nowNs);
    B& bucket = buckets_[slot.index];
    T& tally = tallies_[slot.index];
    Atomic<uint64_t>& onLease = leaseOf(lane_, slot.index);
    held.units = std::min(held.units, onLease.load(std::memory_order_relaxed));
    held.left = std::min(held.left, held.units);
    // seq_cst [lapse]: before the promise is read. Whoever dates a lapse without looking at leases is seen here.
    if (!h_->hasLeased.load(std::memory_order_seq_cst)) h_->hasLeased.store(1, std::memory_order_seq_cst);
    const Promise promise = promiseAt(nowNs);
    const uint64_t validUntil = promise.untilNs();
    out.promise = static_cast<uint32_t>(promise.bits);
    const uint64_t meta = bucket.meta.load(std::memory_order_acquire);
    if ((meta & (kHasLimit | kOff)) || tally.waitUntilNs.load(std::memory_order_relaxed) > nowNs) want = 0;
    // [lapse] Nothing is leased any more as of a time before it.
    if (promise.hasLapsed() && nowNs <= validUntil) want = 0;
    want = std::min(want, capOf(slot.index, nowNs) / (2 * kLanes));
    if (want < least) want = 0;
    if (held.units == 0 && want == 0) return kDenied;
    if (held.requests) count(slot.index, held.requests, 0);

    // Its own raise counts for everyone else only: these tokens are still in the bucket.
    const uint64_t most = std::max(want, held.units), raised = most - held.units;
    uint64_t back = 0;
    raiseLargestCost(most);
    if (raised) {
      onLease.fetch_add(raised, std::memory_order_acq_rel);
      if (!(meta & kLeased)) bucket.meta.fetch_or(kLeased, std::memory_order_acq_rel);
    }
    uint64_t taken = 0;
    for (int tries = 0; tries < kAcquireTries; ++tries) {
      Word word{bucket.word.load(std::memory_order_acquire)};
      if (!isLive(slot)) {
        lower(onLease, most);
        return kBadHandle;
      }
      const Reading p = readParams(bucket, word.epoch());
      const Evaluation e = evaluate(word.level(), p, nowNs, validUntil, fallbackFor(&tally, p, nowNs, validUntil),
                                    std::max<int64_t>(0, leasesOf(slot.index) - static_cast<int64_t>(raised)));
      raiseLatest(std::max(nowNs, p.sinceNs));
      // What lies above a debt that a cut of the burst has left may have been had by others since: only the rest is kept.
      const auto keep = static_cast<uint64_t>(std::max<int64_t>(0, static_cast<int64_t>(held.left) + std::min<int64_t>(0, e.level)));
      if (const uint64_t spare = held.left - std::min(want, keep); spare > back) {
        // release [tick]: as in refund.
        tally.admittedTokens.fetch_sub(spare - back, std::memory_order_release);
        h_->refunded.fetch_add(spare - back, std::memory_order_release);
        back = spare;
      }
      const uint64_t kept = held.left - back, wanted = want > kept ? want - kept : 0;
      const uint64_t grab = e.level > 1 ? std::min(wanted, static_cast<uint64_t>(e.level) / 2) : 0;
      const int64_t stored = e.level - static_cast<int64_t>(grab) + static_cast<int64_t>(back) - e.accrued;
      if (stored < -2 * kLevelLimit) [[unlikely]] {
        reanchor(bucket, &tally, nowNs);
        continue;
      }
      if (swapLevel(bucket, word, stored)) {
        taken = grab;
        out.epoch = word.epoch();
        break;
      }
      // Lost for good, the level has been clipped under the lease by those who won.
    }
    out.units = held.left - back + taken;
    lower(onLease, most - out.units);
    if (taken) count(slot.index, 0, taken);
    return out.units ? kOwn : kDenied;
  }

  uint32_t lanesUsed() const noexcept { return std::min(h_->lanesUsed.load(std::memory_order_acquire), kLanes); }

  // Units of a slot on lease, in all lanes.
  int64_t leasedOf(uint32_t index) const noexcept {
    return buckets_[index].meta.load(std::memory_order_acquire) & kLeased ? leasesOf(index) : 0;
  }

  // ---- those who wait -------------------------------------------------------------------------------

  // [line] A ticket is a place in a line, counted in token units: the difference of two tickets is what those
  // between them want. Each thread shows the first ticket it holds, so whoever looks knows how much is wanted
  // before its own. The first of all may take what there is; another only what leaves enough for all before it.
  // So nobody is overtaken by someone who came later, and no thread has to be woken for another to go on.
  // A thread that shows no life is passed over, with all its tickets.

  // Draws a ticket. It counts as denied until it is admitted: demand is known when it arises.
  uint64_t joinLine(Slot slot, uint64_t cost) noexcept {
    deny(tallies_[slot.index], cost);
    // relaxed: only the order of the tickets themselves matters.
    const uint64_t ticket = lines_[slot.index].tickets.fetch_add(cost, std::memory_order_relaxed) + 1;
    return ticket ? ticket : 1;  // 0 stands for none; once in 2^64 units two share a place
  }

  // One who would wait and may not: it draws no ticket, yet what it asked for is demand like any other's.
  void turnAway(Slot slot, uint64_t cost) noexcept { deny(tallies_[slot.index], cost); }

  // The holder of a thread's first ticket tries. Until `holdUntilNs` newcomers let it pass and the others wait for
  // its seat; 0 lets newcomers pass.
  int32_t acquireInLine(Slot slot, uint32_t seat, uint64_t ticket, uint64_t cost, uint64_t nowNs, uint64_t holdUntilNs,
                        uint64_t& ahead) noexcept {
    if (!isLive(slot)) return kBadHandle;
    L& line = lines_[slot.index];
    // release [line]: whoever sees the seat's bit sees its ticket.
    ticketOf(seat, slot.index).store(ticket, std::memory_order_release);
    // acquire [line]
    if (!(line.seats.load(std::memory_order_acquire) >> seat & 1)) line.seats.fetch_or(1ull << seat, std::memory_order_acq_rel);
    ahead = tokensAhead(slot.index, seat, ticket, nowNs);
    const int32_t decision = acquireAny(slot, cost, nowNs, true, std::min(ahead, static_cast<uint64_t>(kLevelLimit)));
    if (decision > 0) {
      T& tally = tallies_[slot.index];
      tally.denied.fetch_sub(1, std::memory_order_relaxed);
      tally.deniedTokens.fetch_sub(cost, std::memory_order_relaxed);
    } else if (holdUntilNs) {
      waitInLine(slot.index, holdUntilNs, nowNs);
    }
    return decision;
  }

  // The thread has nobody in this line any more. Newcomers pass again if nobody else has.
  void leaveLine(uint32_t index, uint32_t seat, uint64_t nowNs) noexcept {
    ticketOf(seat, index).store(0, std::memory_order_release);
    lines_[index].seats.fetch_and(~(1ull << seat), std::memory_order_acq_rel);
    if (firstTicket(index, kSeats, nowNs) == 0) waitInLine(index, 0, nowNs);
  }

  // Whether a newcomer has to wait behind others. Nobody waits where nobody is denied.
  bool isLineHeld(uint32_t index, uint64_t nowNs) const noexcept {
    if (index >= slots() || (buckets_[index].meta.load(std::memory_order_acquire) & (kShadow | kOff))) return false;
    // relaxed: see acquire.
    return tallies_[index].waitUntilNs.load(std::memory_order_relaxed) > nowNs;
  }

  // What the line wants, all together; those who gave up behind the first count until it has moved on.
  uint64_t tokensWaiting(uint32_t index, uint64_t nowNs) const noexcept {
    if (!lines_) return 0;
    const uint64_t first = firstTicket(index, kSeats, nowNs);
    return first ? lines_[index].tickets.load(std::memory_order_relaxed) + 1 - first : 0;
  }

  // A seat for a thread, or kSeats when all are taken. Nobody's tickets are left in its row.
  uint32_t takeSeat() noexcept {
    for (uint32_t seat = 0; seat < kSeats; ++seat) {
      uint64_t owner = h_->seats[seat].owner.load(std::memory_order_acquire);
      if (owner && !(sharing_.isGone && sharing_.isGone(owner))) continue;
      // Its tickets must be gone before it shows life again.
      if (!h_->seats[seat].owner.compare_exchange_strong(owner, sharing_.self, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
      h_->seats[seat].untilNs.store(0, std::memory_order_release);
      for (uint32_t i = 0; i < highWater(); ++i)
        if (ticketOf(seat, i).load(std::memory_order_relaxed)) ticketOf(seat, i).store(0, std::memory_order_relaxed);
      return seat;
    }
    return kSeats;
  }

  void leaveSeat(uint32_t seat) noexcept {
    h_->seats[seat].untilNs.store(0, std::memory_order_release);
    h_->seats[seat].owner.store(0, std::memory_order_release);
  }

  // Shows that the thread is there. Returns how many changes there have been, for due times.
  uint64_t showLife(uint32_t seat, uint64_t untilNs) noexcept {
    if (seat < kSeats) h_->seats[seat].untilNs.store(untilNs, std::memory_order_release);
    return h_->changes.load(std::memory_order_acquire);
  }

  Counters counters(uint32_t index) const noexcept {
    const T& t = tallies_[index];
    const C& c = completions_[index];
    constexpr auto relaxed = std::memory_order_relaxed;  // totals, as in acquire
    const Counted lanes = inLanesOf(index);
    static const Uncharged<Atomic> none{};
    const Uncharged<Atomic>& u = metaOf(index) & kHasUncharged ? parts_.uncharged[index] : none;
    return {t.admitted.load(relaxed) + lanes.admitted, t.admittedTokens.load(relaxed) + lanes.admittedTokens, t.denied.load(relaxed), t.deniedTokens.load(relaxed),
            t.borrowedTokens.load(relaxed), c.count.load(relaxed), c.readBytes.load(relaxed), c.writeBytes.load(relaxed),
            c.durationNs.load(relaxed), u.passed.load(relaxed), u.passedTokens.load(relaxed), u.unmetered.load(relaxed), u.unmeteredTokens.load(relaxed)};
  }

  LevelReading levelOf(uint32_t index, uint64_t nowNs) const noexcept {
    const Word word{buckets_[index].word.load(std::memory_order_acquire)};
    const Reading p = readParams(buckets_[index], word.epoch());
    const uint64_t fallback = tallies_[index].fallback.load(std::memory_order_relaxed);
    const uint64_t validUntil = endSeenAt(nowNs);
    const Evaluation e = evaluate(word.level(), p, nowNs, validUntil, fallback, leasedOf(index));
    const bool lapsed = nowNs > validUntil && p.sinceNs <= validUntil;
    if (lapsed) return {e.level, rateOf(fallback), e.cap, 0};
    return {e.level, p.rate, p.burst, nowNs < p.depositUntilNs ? p.deposit : 0};
  }

  // Has the lines of a decision fetched to be written, all at once. Of an index that is none nothing comes.
  FORETOKEN_INLINE void prefetch(uint32_t index) const noexcept {
    fetchToWrite(buckets_ + index);
    if (mine_) [[likely]] fetchToWrite(mine_ + index);
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
    h_->firstRate.store(rate, relaxed);
    h_->firstBurst.store(burst, relaxed);
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
    return exclusively([&] { return addLocked(flags, out, clock, [](Slot) {}); });
  }

  // Does something under the writer lock, which the functions ending in Locked are called under.
  template <class Fn>
  Status exclusively(Fn&& fn) noexcept {
    Lock lock(*this);
    return lock ? fn() : lock.failure();
  }

  // `prepare` is told the slot before anyone can see it.
  template <class Clock, class Fn>
  Status addLocked(uint64_t flags, Slot& out, Clock&& clock, Fn&& prepare) noexcept {
    uint32_t index = h_->highWater.load(std::memory_order_relaxed);
    if (index < slots()) {
      h_->highWater.store(index + 1, std::memory_order_release);
    } else {
      // The queue of freed slots is first in, first out, so each rests for as long as possible.
      index = h_->freeHead.load(std::memory_order_relaxed);
      if (index == 0) return kFull;
      const auto next = static_cast<uint32_t>(buckets_[index].meta.load(std::memory_order_relaxed) >> kNextShift) & kIndexMask;
      h_->freeHead.store(next, std::memory_order_relaxed);
      if (next == 0) h_->freeTail.store(0, std::memory_order_relaxed);
    }
    resetTally(index);
    const uint32_t generation = nextGeneration(static_cast<uint32_t>(buckets_[index].meta.load(std::memory_order_relaxed) >> 32));
    // The slot is empty: rate, burst and level are zero since it was made or freed.
    const Status published = settled(clock, [&](bool lapsed) {
      return publish(index, lapsed, clock, [](const Evaluation&, const Reading&, Change& c) {
        c = Change{0, 0, 0, 0, 0};
        return true;
      });
    });
    if (published != kOk) return published;
    prepare(Slot{index, generation});
    // release [slot]
    buckets_[index].meta.store((static_cast<uint64_t>(generation) << 32) | (flags & kMayBorrow) | kLive, std::memory_order_release);
    h_->liveTargets.fetch_add(1, std::memory_order_relaxed);
    out = {index, generation};
    return kOk;
  }

  // Frees a slot. What it held goes to the reservoir; requests with its handle get kBadHandle from now on.
  template <class Clock>
  Status removeTarget(Slot slot, Clock&& clock) noexcept {
    return exclusively([&] { return removeLocked(slot, clock); });
  }

  template <class Clock>
  Status removeLocked(Slot slot, Clock&& clock) noexcept {
    if (!isLive(slot)) return kStale;
    Atomic<uint64_t>& meta = buckets_[slot.index].meta;
    meta.store(static_cast<uint64_t>(slot.generation) << 32 | (meta.load(std::memory_order_relaxed) & kLeased), std::memory_order_release);
    // Debts go along with tokens: a target cannot leave them behind and come back without.
    const Status emptied = settled(clock, [&](bool lapsed) {
      int64_t freed = 0;
      uint64_t rate = 0, burst = 0;
      const Status s = publish(slot.index, lapsed, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
        freed = e.level;
        rate = p.rate;
        burst = p.burst + p.deposit;
        c = Change{0, 0, 0, 0, 0};
        return true;
      });
      return s == kOk ? growReservoir(rate, burst, freed, lapsed, clock) : s;
    });
    if (emptied != kOk) return emptied;
    // A lease ends with its target: who holds one sees a new epoch or generation before it spends any more. Not before
    // the level was clipped under it, or what was leased would be in the bucket again as soon as it had refilled.
    for (uint32_t lane = 0; lane < lanesUsed(); ++lane) leaseOf(lane, slot.index).store(0, std::memory_order_release);
    meta.fetch_and(~kLeased, std::memory_order_release);
    const uint64_t fallback = tallies_[slot.index].fallback.load(std::memory_order_relaxed);
    const uint64_t otherRates = h_->fallbackRates.load(std::memory_order_relaxed) - rateOf(fallback);
    const uint64_t otherBursts = h_->fallbackBursts.load(std::memory_order_relaxed) - burstOf(fallback);
    tallies_[slot.index].fallback.store(0, std::memory_order_relaxed);
    h_->fallbackRates.store(otherRates, std::memory_order_relaxed);
    h_->fallbackBursts.store(otherBursts, std::memory_order_relaxed);
    tallies_[kReservoir].fallback.store(join(encode(less(h_->resourceRate.load(std::memory_order_relaxed), otherRates)),
                                             encode(less(h_->resourceBurst.load(std::memory_order_relaxed), otherBursts))),
                                        std::memory_order_relaxed);
    h_->liveTargets.fetch_sub(1, std::memory_order_relaxed);
    // The link lies in a word that no request writes: one in flight may still return a share to this slot.
    const uint32_t tail = h_->freeTail.load(std::memory_order_relaxed);
    if (tail == 0) h_->freeHead.store(slot.index, std::memory_order_relaxed);
    else buckets_[tail].meta.fetch_add(static_cast<uint64_t>(slot.index) << kNextShift, std::memory_order_relaxed);
    h_->freeTail.store(slot.index, std::memory_order_relaxed);
    return kOk;
  }

  // Sets the target's ceiling; both zero removes it. Raising a ceiling grants time, not tokens.
  template <class Clock>
  Status setLimit(Slot slot, uint64_t rate, uint64_t burst, Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock) return lock.failure();
    if (!isLive(slot)) return kStale;
    B& bucket = buckets_[slot.index];
    const uint64_t meta = bucket.meta.load(std::memory_order_relaxed);
    if (burst == 0) {
      bucket.meta.fetch_and(~kHasLimit, std::memory_order_release);
      return kOk;
    }
    const bool fresh = !(meta & kHasLimit);
    const Status published = publishBucket(limits_[slot.index], nullptr, false, clock, [&](const Evaluation& e, const Reading&, Change& c) {
      const uint32_t burstCode = encode(burst);
      c = Change{encode(rate), burstCode, 0, 0, fresh ? static_cast<int64_t>(decode(burstCode)) : e.level};
      return true;
    });
    if (published != kOk) return published;
    bucket.meta.fetch_or(kHasLimit, std::memory_order_release);
    // A target with a limit is not leased: a new epoch tells who holds a lease from before.
    return fresh ? reanchorLocked(bucket, &tallies_[slot.index], clock()) : kOk;
  }

  Status setMayBorrow(Slot slot, bool may) noexcept {
    Lock lock(*this);
    if (!lock) return lock.failure();
    if (!isLive(slot)) return kStale;
    B& bucket = buckets_[slot.index];
    if (may) bucket.meta.fetch_or(kMayBorrow, std::memory_order_release);
    else bucket.meta.fetch_and(~kMayBorrow, std::memory_order_release);
    return kOk;
  }

  // From the next request on, in every thread and process. The target keeps its rate, burst and tokens.
  Status setMode(Slot slot, Mode mode, uint64_t nowNs) noexcept {
    Lock lock(*this);
    if (!lock) return lock.failure();
    if (!isLive(slot)) return kStale;
    Atomic<uint64_t>& meta = buckets_[slot.index].meta;
    Uncharged<Atomic>& uncharged = parts_.uncharged[slot.index];
    uint64_t seen = meta.load(std::memory_order_acquire), to = 0;
    if (mode != Mode::kEnforce && !(seen & kHasUncharged))
      for (auto* count : {&uncharged.passed, &uncharged.passedTokens, &uncharged.unmetered, &uncharged.unmeteredTokens})
        count->store(0, std::memory_order_relaxed);
    do {
      to = seen & ~(kShadow | kOff);
      if (mode != Mode::kEnforce) to |= kHasUncharged | (mode == Mode::kOff ? kOff : kShadow);
      // release [mode]: whoever sees it sees the counters at their beginning. Requests set other bits meanwhile.
    } while (!meta.compare_exchange_weak(seen, to, std::memory_order_acq_rel, std::memory_order_acquire));
    // Leases end: a new epoch tells who holds one, as in setLimit.
    return mode == Mode::kOff && !(seen & kOff) && (seen & kLeased) ? reanchorLocked(buckets_[slot.index], &tallies_[slot.index], nowNs) : kOk;
  }

  // Of a slot that is in use.
  Mode modeOf(uint32_t index) const noexcept {
    const uint64_t meta = metaOf(index);
    return meta & kOff ? Mode::kOff : meta & kShadow ? Mode::kShadow : Mode::kEnforce;
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
    if (!lock) return lock.failure();
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
      const Status s = publish(i, false, clock, [&](const Evaluation& e, const Reading& now, Change& c) {
        c = keepDeposit(now, lowRate, lowBurst, e.level, c.leased);
        const auto most = static_cast<int64_t>(decode(lowBurst) + now.deposit);
        cut = cutOff(e.level, most - c.leased);
        return true;
      });
      if (s != kOk) return s;
      freed += cut;
    }
    for (uint32_t i = 0; i < count; ++i) {
      const Reading p = current(i);
      if (decode(shares[i].rate) == p.rate && decode(shares[i].burst) == p.burst) continue;
      const Status s = publish(i, false, clock, [&](const Evaluation& e, const Reading& now, Change& c) {
        c = keepDeposit(now, shares[i].rate, shares[i].burst, e.level, c.leased);
        return true;
      });
      if (s != kOk) return s;
    }
    if (freed > 0) {
      const uint64_t now = clock();
      giveBack(buckets_[kReservoir], &tallies_[kReservoir], static_cast<uint64_t>(freed), now, validUntilAt(now));
    }
    return kOk;
  }

  // Moves up to `units` of level and burst from the reservoir into a bucket, to expire at `untilNs`. Adds
  // to a deposit that is already there and extends it. Returns the units moved.
  template <class Clock>
  uint64_t deposit(Slot slot, uint64_t units, uint64_t untilNs, Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock || !isLive(slot) || units == 0 || lapsedAt(clock())) return 0;
    // One that would have expired when it arrives is not made.
    if (untilNs < clock() + (1ull << kExpiryShift)) return 0;
    reclaimLocked(slot.index, false, false, clock);
    const Reading before = current(slot.index);
    uint64_t moved = 0;
    uint32_t code = 0;
    publish(kReservoir, false, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
      const uint64_t most = std::min({units, p.burst, static_cast<uint64_t>(std::max<int64_t>(e.level, 0))});
      code = encode(before.deposit + most);
      moved = decode(code) > before.deposit ? decode(code) - before.deposit : 0;
      if (moved == 0) return false;
      c = Change{encode(p.rate), encode(p.burst - moved), 0, 0, e.level - static_cast<int64_t>(moved)};
      return true;
    });
    if (moved == 0) return 0;
    const uint64_t until = std::max(untilNs, before.deposit ? before.depositUntilNs : 0);
    const Status s = publish(slot.index, false, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
      c = Change{encode(p.rate), encode(p.burst), code, until, e.level + static_cast<int64_t>(moved), c.leased};
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
    return reclaimAllExpired(lapsedAt(clock()), clock);
  }

  template <class Clock>
  int64_t withdraw(Slot slot, Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock || !isLive(slot)) return 0;
    return reclaimLocked(slot.index, true, lapsedAt(clock()), clock);
  }

  // Work conservation: hands what buckets could not hold since the last tick to the reservoir, whether they were
  // idle or in use: a request that clips a full bucket leaves no trace of it but that the levels fall short.
  //
  // The bound that keeps the resource law [tick]: with M what the resource as a single bucket held at least when the last
  // tick's latest admission had been taken, and A what was admitted since, refunds not deducted (they may have been cut
  // off there), it holds at least min(burst, M + rate * dt) - A at any time once all of A has been taken. What is handed
  // over may not lift the sum of levels above that, now or at any time until then: levels may yet rise by the rate. What
  // is on lease fits into no level, so the burst counts as smaller by what was on lease at the last tick; leases since are
  // in A. A debt makes no room for others: a level below zero counts as zero. native/README.md has the argument.
  //
  // `admitted` is read after the levels for what is handed out now and before them, the reservoir's last, for M: so
  // a request in between counts once there and against what is handed out. `refunded` rises after `admittedTokens` has
  // fallen, so it is read last where too little, and first where too much, would hand out more. One that has taken its
  // tokens but not yet counted them, a refund half counted, or a request that has missed `tickedNs` is covered by the
  // largest amount seen, once for every other thread.
  template <class Clock>
  TickResult tick(uint32_t otherThreads, Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock) return {0, 0, 0, lock.failure()};
    const uint64_t now = asOf(clock());
    // seq_cst [tick]: before any word is read.
    h_->tickedNs.store(now, std::memory_order_seq_cst);
    uint64_t latest = 0;
    if (lapsedAt(now)) adoptFallbacks(latest, clock);
    else reclaimAllExpired(false, clock);
    const uint64_t last = h_->tickNs.load(std::memory_order_relaxed);
    const uint64_t validUntil = peekValidUntil();
    const uint32_t used = highWater();
    uint64_t untilNs = std::max(now, last);
    int64_t levels = 0, usable = 0, leased = 0;
    uint64_t before = h_->refunded.load(std::memory_order_acquire);
    for (uint32_t n = 1; n <= used; ++n) {
      const uint32_t i = n % used;
      before += admittedTokensOf(i);
      const B& bucket = buckets_[i];
      const Word word{bucket.word.load(std::memory_order_seq_cst)};
      const Reading p = readParams(bucket, word.epoch());
      const int64_t onLease = leasedOf(i);
      const Evaluation e = evaluate(word.level(), p, now, validUntil, tallies_[i].fallback.load(std::memory_order_relaxed), onLease);
      // A level is never older than its version.
      untilNs = std::max(untilNs, p.sinceNs);
      levels += e.level;
      usable += std::max<int64_t>(0, e.level);
      leased += onLease;
    }
    // relaxed: whoever was seen to have taken something raised it before.
    untilNs = std::max(untilNs, h_->latestNs.load(std::memory_order_relaxed));
    uint64_t admitted = 0;
    for (uint32_t i = 0; i < used; ++i) admitted += admittedTokensOf(i);
    admitted += h_->refunded.load(std::memory_order_acquire);

    const uint64_t rate = h_->resourceRate.load(std::memory_order_relaxed);
    const int64_t most = static_cast<int64_t>(h_->resourceBurst.load(std::memory_order_relaxed)) - h_->tickLeased.load(std::memory_order_relaxed);
    const uint64_t admittedThen = h_->tickAdmitted.load(std::memory_order_relaxed);
    const int64_t inFlight = static_cast<int64_t>(otherThreads) * static_cast<int64_t>(h_->largestCost.load(std::memory_order_relaxed));
    int64_t returned = 0, held = levels;
    if (last != 0) {
      const int64_t then = h_->tickHeld.load(std::memory_order_relaxed);
      const int64_t yet = now < last ? then - accrued(rate, last - now) : then + accrued(rate, now - last);
      const int64_t room = std::min(most - accrued(rate, untilNs - now), yet) - static_cast<int64_t>(admitted - admittedThen) - inFlight;
      returned = std::max<int64_t>(0, room - usable);
      if (returned > 0)
        returned -= static_cast<int64_t>(giveBack(buckets_[kReservoir], &tallies_[kReservoir], static_cast<uint64_t>(returned), now, validUntil));
      held = std::max(levels + returned, std::min(most, then + accrued(rate, untilNs - last)) - static_cast<int64_t>(before - admittedThen));
    }
    h_->tickNs.store(untilNs, std::memory_order_relaxed);
    h_->tickHeld.store(held, std::memory_order_relaxed);
    h_->tickAdmitted.store(before, std::memory_order_relaxed);
    h_->tickLeased.store(leased, std::memory_order_relaxed);
    Peek reservoir{};
    peek({kReservoir, 0}, 0, now, reservoir);
    return {returned, reservoir.level, levels + returned, kOk};
  }

  // What each slot below `count` may borrow until this is said again, and what is left in the reservoir for those who
  // may take the stock; `unitsOf` and `mayTakeStock` are asked for each.
  template <class Fn, class May>
  Status setBorrowShares(uint32_t count, uint64_t stock, Fn&& unitsOf, May&& mayTakeStock) noexcept {
    return exclusively([&] {
      setStock(stock);
      for (uint32_t i = 1; i < count; ++i) setBorrowShare(i, unitsOf(i), mayTakeStock(i));
      return kOk;
    });
  }

  void setBorrowShare(uint32_t index, int64_t units, bool mayTakeStock = false) noexcept {
    // relaxed: a request that sees the old share borrows within the old share.
    tallies_[index].borrowShare.store(std::min(units, kMayTakeStock - 1) | (mayTakeStock ? kMayTakeStock : 0), std::memory_order_relaxed);
  }

  // relaxed: as the shares.
  void setStock(uint64_t units) noexcept { h_->stock.store(units, std::memory_order_relaxed); }

  // What holds without a controller. The reservoir's fallback is whatever the targets leave.
  template <class Clock>
  Status setFallback(Slot slot, uint64_t rate, uint64_t burst, Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock) return lock.failure();
    if (!isLive(slot)) return kStale;
    const uint64_t next = join(encode(rate), encode(burst));
    return settled(clock, [&](bool lapsed) { return setFallbackLocked(slot.index, next, lapsed, clock); });
  }

  // Fallbacks of all slots below `count` at once; entry 0 is ignored. Decreases go first.
  template <class Clock>
  Status setFallbacks(const Share* shares, uint32_t count, Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock) return lock.failure();
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
        const Status s = settled(clock, [&](bool lapsed) { return setFallbackLocked(i, next, lapsed, clock); });
        if (s != kOk) return s;
      }
    }
    return kOk;
  }

  // Gives a target that nothing was allocated to yet its fallback rate and burst, as far as the reservoir has
  // them left, and the tokens that lie under that burst. So it need not wait for the next allocation.
  template <class Clock>
  Status endow(Slot slot, Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock) return kBusy;
    if (!isLive(slot)) return kStale;
    // After a lapse it has its fallback already.
    if (lapsedAt(clock())) return kOk;
    const Reading has = current(slot.index);
    if (has.rate > 0 || has.burst > 0 || has.deposit > 0) return kOk;
    const uint64_t fallback = tallies_[slot.index].fallback.load(std::memory_order_relaxed);
    uint32_t rate = 0, burst = 0;
    int64_t moved = 0;
    const Status taken = publish(kReservoir, false, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
      rate = encode(std::min(rateOf(fallback), p.rate));
      burst = encode(std::min(burstOf(fallback), p.burst));
      moved = std::clamp<int64_t>(e.level, 0, static_cast<int64_t>(decode(burst)));
      c = Change{encode(p.rate - decode(rate)), encode(p.burst - decode(burst)), 0, 0, e.level - moved};
      return true;
    });
    if (taken != kOk) return taken;
    return publish(slot.index, false, clock, [&](const Evaluation& e, const Reading&, Change& c) {
      c = Change{rate, burst, 0, 0, e.level + moved};
      return true;
    });
  }

  // Says that a controller is alive until `untilNs`. If the last promise lapsed, every slot first takes on
  // its fallback parameters for good, so that nothing accrues twice; the caller then allocates anew.
  template <class Clock>
  Status extendValidity(uint64_t untilNs, bool& resumed, Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock) return lock.failure();
    resumed = false;
    untilNs = std::min(untilNs, kLatestNs);
    const uint64_t wanted = Promise::until(untilNs).bits;
    for (int tries = 0; tries < 4; ++tries) {
      if (!lapsedAt(clock())) {
        // acq_rel [validity]: pairs with the latch in lapse.
        Promise old{h_->validUntil.load(std::memory_order_acquire)};
        if (old.hasLapsed()) continue;
        if (old.bits >= wanted) return kOk;
        if (h_->validUntil.compare_exchange_strong(old.bits, wanted, std::memory_order_acq_rel, std::memory_order_acquire)) return kOk;
        continue;
      }
      resumed = true;
      uint64_t latest = asOf(clock());
      const uint64_t promised = untilNs > latest ? untilNs - latest : 0;
      const Status s = adoptFallbacks(latest, clock);
      if (s != kOk) return s;
      // No version may be younger than the promise, also when the clock stepped back before it was given.
      h_->validUntil.store(Promise::until(std::min(latest + promised, kLatestNs)).bits, std::memory_order_release);
      return kOk;
    }
    return kBusy;
  }

  // Changes the resource's limits. Refused while more is allocated than the new ones allow.
  template <class Clock>
  Status setResource(uint64_t rate, uint64_t burst, Clock&& clock) noexcept {
    Lock lock(*this);
    if (!lock) return lock.failure();
    const Status s = settled(clock, [&](bool lapsed) {
      uint64_t rates = 0, bursts = 0;
      for (uint32_t i = 1; i < highWater(); ++i) {
        const Reading p = current(i);
        rates += p.rate;
        bursts += p.burst + p.deposit;
      }
      if (rates > rate) return kOverRate;
      if (bursts > burst) return kOverBurst;
      if (h_->fallbackRates.load(std::memory_order_relaxed) > rate) return kOverFallbackRate;
      if (h_->fallbackBursts.load(std::memory_order_relaxed) > burst) return kOverFallbackBurst;
      return publish(kReservoir, lapsed, clock, [&](const Evaluation& e, const Reading&, Change& c) {
        c = Change{encode(rate - rates), encode(burst - bursts), 0, 0, e.level};
        return true;
      });
    });
    if (s != kOk) return s;
    h_->resourceRate.store(rate, std::memory_order_relaxed);
    h_->resourceBurst.store(burst, std::memory_order_relaxed);
    tallies_[kReservoir].fallback.store(join(encode(rate - h_->fallbackRates.load(std::memory_order_relaxed)),
                                             encode(burst - h_->fallbackBursts.load(std::memory_order_relaxed))),
                                        std::memory_order_relaxed);
    // [tick]: the bound reckons with one rate and one burst since the last tick.
    h_->tickNs.store(0, std::memory_order_relaxed);
    return kOk;
  }

  // ---- the controller role --------------------------------------------------------------------------

  // Takes the role if nobody holds it, its time has run out, or its holder is gone. Returns the term, 0 if it is not
  // to be had. Everything done through this table object is from then on refused once the role has gone to another.
  template <class Clock>
  uint64_t takeRole(uint64_t forNs, Clock&& clock) noexcept {
    term_ = 0;
    uint64_t term = 0;
    const auto isHeld = [&] {
      const uint64_t holder = h_->controllerPid.load(std::memory_order_acquire);
      const bool inTime = clock() < h_->controllerUntilNs.load(std::memory_order_acquire);
      return holder && inTime && !(sharing_.isGone && sharing_.isGone(holder));
    };
    // Who stands by asks often, and must not trouble the one who acts.
    if (isHeld()) return 0;
    exclusively([&] {
      if (isHeld()) return kBusy;
      const uint64_t now = clock();
      term = h_->controllerTerm.load(std::memory_order_relaxed) + 1;
      // The term first: it is what shuts the last holder out.
      h_->controllerTerm.store(term, std::memory_order_release);
      h_->controllerUntilNs.store(now + forNs, std::memory_order_release);
      h_->controllerPid.store(sharing_.self, std::memory_order_release);
      return kOk;
    });
    term_ = term;
    return term;
  }

  template <class Clock>
  Status renewRole(uint64_t forNs, Clock&& clock) noexcept {
    if (term_ == 0) return kDeposed;
    return exclusively([&] {
      h_->controllerUntilNs.store(clock() + forNs, std::memory_order_release);
      return kOk;
    });
  }

  void leaveRole() noexcept {
    if (term_)
      exclusively([&] {
        h_->controllerPid.store(0, std::memory_order_release);
        return kOk;
      });
    term_ = 0;
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
  // relaxed [tick]: what is later than any before must be known before it is taken. It only rises.
  FORETOKEN_INLINE static bool isKnown(const H& header, uint64_t nowNs) noexcept {
    return header.latestNs.load(std::memory_order_relaxed) >= nowNs;
  }

  // How young a version must be to hold as it stands: a promise covers all versions until then, one that has lapsed those
  // that came after it.
  FORETOKEN_INLINE static uint64_t coveredNs(Promise promise, uint64_t nowNs) noexcept {
    return promise.untilNs() >= nowNs ? nowNs + 1 : promise.hasLapsed() ? nowNs - promise.untilNs() : 0;
  }

  // By name, because GCC takes a function of nothing but __builtin_prefetch for one that does nothing, and because a line
  // that is fetched to be read must be asked for again to be written. Nothing happens where a processor does not know it.
  FORETOKEN_INLINE static void fetchToWrite(const void* at) noexcept {
#if defined(__x86_64__)
    asm volatile("prefetchw (%0)" : : "r"(at));
#else
    __builtin_prefetch(at, 1);
#endif
  }

  Atomic<uint64_t>& ticketOf(uint32_t seat, uint32_t index) const noexcept { return tickets_[static_cast<uint64_t>(seat) * slots() + index]; }

  // The first ticket of a line, of seats other than this one that show life; 0 if there is none.
  uint64_t firstTicket(uint32_t index, uint32_t except, uint64_t nowNs) const noexcept {
    uint64_t seats = lines_[index].seats.load(std::memory_order_acquire);
    if (except < kSeats) seats &= ~(1ull << except);
    uint64_t first = 0;
    for (; seats; seats &= seats - 1) {
      const auto seat = static_cast<uint32_t>(__builtin_ctzll(seats));
      if (h_->seats[seat].untilNs.load(std::memory_order_acquire) <= nowNs) continue;
      const uint64_t ticket = ticketOf(seat, index).load(std::memory_order_acquire);
      // Places wrap: what counts is the distance.
      if (ticket && (!first || static_cast<int64_t>(ticket - first) < 0)) first = ticket;
    }
    return first;
  }

  uint64_t tokensAhead(uint32_t index, uint32_t seat, uint64_t ticket, uint64_t nowNs) const noexcept {
    const uint64_t first = firstTicket(index, seat, nowNs);
    return first && static_cast<int64_t>(ticket - first) > 0 ? ticket - first : 0;
  }

  struct Change {
    uint32_t rate, burst, deposit;  // codes
    uint64_t depositUntilNs;
    int64_t level;
    int64_t leased = 0;  // in: what is out on lease; out: what of it stays below the new burst
  };

  class Lock {
   public:
    explicit Lock(Table& table) noexcept : table_(table) {
      for (int tries = 0; tries < kLockSpins + kLockNaps; ++tries) {
        uint64_t holder = 0;
        // acquire/release [writer]: one writer's changes are whole for the next.
        held_ = table_.h_->writerLock.compare_exchange_weak(holder, table_.sharing_.self, std::memory_order_acquire, std::memory_order_relaxed);
        if (held_) break;
        const int naps = tries - kLockSpins;
        if (naps >= 0 && naps % kNapsPerLook == 0 && holder && table_.sharing_.isGone && table_.sharing_.isGone(holder)) {
          // Killed while it held the lock: one of those who wait takes its place.
          held_ = table_.h_->writerLock.compare_exchange_strong(holder, table_.sharing_.self, std::memory_order_acquire, std::memory_order_relaxed);
          if (held_) {
            table_.repair([&] { return table_.sharing_.now(*table_.h_); });
            break;
          }
        }
        if (naps < 0) Pause();
        else Nap();
      }
      if (held_ && table_.term_ && table_.h_->controllerTerm.load(std::memory_order_acquire) != table_.term_) {
        release();
        failure_ = kDeposed;
      }
    }
    ~Lock() {
      if (!held_) return;
      // release [changes]: whoever sees the number sees the change.
      table_.h_->changes.fetch_add(1, std::memory_order_release);
      release();
    }
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
    explicit operator bool() const noexcept { return held_; }
    // Why it is not held.
    Status failure() const noexcept { return failure_; }

   private:
    static void Pause() noexcept {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    static void Nap() noexcept {
      const timespec nap{0, kNapNs};
      nanosleep(&nap, nullptr);
    }
    void release() noexcept {
      table_.h_->writerLock.store(0, std::memory_order_release);
      held_ = false;
    }
    Table& table_;
    bool held_ = false;
    Status failure_ = kBusy;
  };

  // 29 bits, so that generation and slot fit a double's integers; never 0, which is a slot never used.
  static constexpr uint32_t nextGeneration(uint32_t generation) noexcept {
    const uint32_t next = (generation + 1) & ((1u << 29) - 1);
    return next ? next : 1;
  }

  // Tokens that are free when a level is lowered to `most`. [lease] Below zero there are none: that is a debt for what
  // is on lease, and may have been spent.
  static constexpr int64_t cutOff(int64_t level, int64_t most) noexcept { return std::max<int64_t>(0, level - std::max<int64_t>(0, most)); }

  static constexpr uint64_t less(uint64_t a, uint64_t b) noexcept { return a > b ? a - b : 0; }
  static constexpr uint64_t rateOf(uint64_t pair) noexcept { return decode(static_cast<uint32_t>(pair)); }
  static constexpr uint64_t burstOf(uint64_t pair) noexcept { return decode(static_cast<uint32_t>(pair >> 32)); }

  static constexpr uint64_t lesser(uint64_t a, uint64_t b) noexcept {
    return join(encode(std::min(rateOf(a), rateOf(b))), encode(std::min(burstOf(a), burstOf(b))));
  }

  static constexpr uint64_t join(uint32_t rate, uint32_t burst) noexcept {
    return (static_cast<uint64_t>(burst) << 32) | rate;
  }

  static constexpr Change keepDeposit(const Reading& p, uint32_t rate, uint32_t burst, int64_t level, int64_t leased) noexcept {
    return {rate, burst, encode(p.deposit), p.depositUntilNs, level, leased};
  }

  // A branch rather than an index: predicted, so that the copy is read and refill reckoned while the word that
  // names it is still on its way.
  FORETOKEN_INLINE static const Params<Atomic>& copyOf(const B& bucket, uint8_t epoch) noexcept {
    if (epoch & 1) {
      asm volatile("");
      return bucket.params[1];
    }
    return bucket.params[0];
  }

  static Reading readParams(const B& bucket, uint8_t epoch) noexcept {
    const Params<Atomic>& p = copyOf(bucket, epoch);
    // acquire [epoch]
    const uint64_t since = p.sinceNs.load(std::memory_order_acquire);
    const uint64_t rateAndBurst = p.rateAndBurst.load(std::memory_order_acquire);
    return read(since, rateAndBurst, p.deposit.load(std::memory_order_acquire));
  }

  static Reading written(const B& bucket) noexcept {
    return readParams(bucket, Word{bucket.word.load(std::memory_order_acquire)}.epoch());
  }

  // What holds once a lapse has stuck, for a version the promise had covered: the fallback, and no deposit.
  static Reading without(const Reading& p, uint64_t validUntil, uint64_t fallback) noexcept {
    return p.sinceNs > validUntil ? p : Reading{p.sinceNs, rateOf(fallback), burstOf(fallback), 0, 0};
  }

  // What a slot holds now. Whoever changes it has made a lapse stick before (lapsedAt).
  Reading current(uint32_t index) const noexcept {
    const Reading p = written(buckets_[index]);
    const uint64_t valid = h_->validUntil.load(std::memory_order_acquire);
    return valid & 1 ? without(p, valid >> 1, tallies_[index].fallback.load(std::memory_order_relaxed)) : p;
  }

  uint64_t capOf(uint32_t index, uint64_t nowNs) const noexcept {
    const Reading p = written(buckets_[index]);
    const uint64_t validUntil = endSeenAt(nowNs);
    if (nowNs <= validUntil || p.sinceNs > validUntil) return p.capAt(nowNs);
    return decode(static_cast<uint32_t>(tallies_[index].fallback.load(std::memory_order_relaxed) >> 32));
  }

  uint64_t peekValidUntil() const noexcept { return h_->validUntil.load(std::memory_order_acquire) >> 1; }

  // [validity] Before a request acts on a promise that has lapsed it makes the lapse stick, so the promise
  // can no longer be extended as if nothing had happened: extendValidity's CAS would fail.
  FORETOKEN_INLINE Promise promiseAt(uint64_t nowNs) noexcept {
    // seq_cst [lapse]: see lease.
    const Promise promise{h_->validUntil.load(std::memory_order_seq_cst)};
    return promise.untilNs() >= nowNs || promise.isDated() ? promise : lapse(promise, nowNs);
  }
  FORETOKEN_INLINE uint64_t validUntilAt(uint64_t nowNs) noexcept { return promiseAt(nowNs).untilNs(); }

  // [lapse] Leases end with the promise: who holds one looks at its word before it spends any. But until somebody has
  // noticed that the promise ran out it is spent, and then others may not have refilled to what they have without
  // a controller: that and what is leased may be more than the resource's burst. So where anybody leases, the
  // allocation holds until then. First the word says that it has lapsed, which ends the leases; only then the clock is
  // read that dates the lapse. Whoever finds one that has no date yet dates it.
  [[gnu::noinline]] Promise lapse(Promise promise, uint64_t nowNs) noexcept {
    // Each round somebody has gone on: broken it, dated it, or extended it before that.
    while (promise.untilNs() < nowNs && !promise.isDated()) {
      const Promise next = promise.hasLapsed() ? dated(promise, nowNs) : promise.broken();
      if (h_->validUntil.compare_exchange_strong(promise.bits, next.bits, std::memory_order_seq_cst, std::memory_order_seq_cst)) promise = next;
    }
    return promise;
  }

  // A promise that ran out before `nowNs`, if its lapse is dated now.
  Promise dated(Promise promise, uint64_t nowNs) const noexcept {
    uint64_t endNs = promise.untilNs();
    // seq_cst [lapse]: see lease.
    if (h_->hasLeased.load(std::memory_order_seq_cst)) endNs = std::max(nowNs, sharing_.now ? sharing_.now(*h_) : nowNs);
    return Promise::lapsedAt(std::min(endNs, kLatestNs - 1));
  }

  // Until when the allocation holds for one who only looks.
  uint64_t endSeenAt(uint64_t nowNs) const noexcept {
    const Promise promise{h_->validUntil.load(std::memory_order_acquire)};
    return promise.untilNs() >= nowNs || promise.isDated() ? promise.untilNs() : dated(promise, nowNs).untilNs();
  }

  FORETOKEN_INLINE static bool swapLevel(B& bucket, Word& word, int64_t stored) noexcept {
    // acq_rel [epoch]: a winner must have read the version the word names, and the next reader must not see
    // an older one. On failure the caller reads everything anew.
    // seq_cst [tick]: see asOf.
    uint64_t seen = word.bits;  // of its own, or the word is stored before every swap, which waits for the store
    if (bucket.word.compare_exchange_weak(seen, pack(stored, word.epoch()).bits, std::memory_order_seq_cst, std::memory_order_acquire))
      return true;
    word.bits = seen;
    return false;
  }

  // The fallback, needed only by a version that the promise has left behind.
  static uint64_t fallbackFor(const T* tally, const Reading& p, uint64_t nowNs, uint64_t validUntil) noexcept {
    return tally && nowNs > validUntil && p.sinceNs <= validUntil ? tally->fallback.load(std::memory_order_relaxed) : 0;
  }

  int32_t take(B& bucket, T* tally, uint32_t index, uint32_t generation, uint64_t cost, uint64_t nowNs, uint64_t validUntil,
               uint64_t ahead) noexcept {
    Word word{bucket.word.load(std::memory_order_acquire)};
    for (int tries = 0; tries < kAcquireTries; ++tries) {
      // [slot] The slot may have been freed since, and its level is what the next owner must not lose. [lease]
      // What is out on lease is read after the word. Both lie in a word that was read after it.
      const uint64_t meta = buckets_[index].meta.load(std::memory_order_acquire);
      if (tally && (meta >> 32) != generation) [[unlikely]] return kBadHandle;
      const Reading p = readParams(bucket, word.epoch());
      const Evaluation e = evaluate(word.level(), p, nowNs, validUntil, fallbackFor(tally, p, nowNs, validUntil), meta & kLeased ? leasesOf(index) : 0);
      if (e.level < static_cast<int64_t>(cost + ahead)) {
        // A reading that was overtaken says nothing: only a denial under the present version counts.
        const Word again{bucket.word.load(std::memory_order_acquire)};
        if (again.epoch() == word.epoch()) return cost > e.cap ? kTooLarge : kDenied;
        word = again;
        continue;
      }
      const int64_t stored = e.level - static_cast<int64_t>(cost) - e.accrued;
      if (stored < -2 * kLevelLimit) [[unlikely]] {
        reanchor(bucket, tally, nowNs);
        word = Word{bucket.word.load(std::memory_order_acquire)};
        continue;
      }
      // [tick]: before the tokens are taken, so that whoever misses them knows how many they may be.
      if (tally) raiseLargestCost(cost);
      if (tally) raiseLatest(std::max(nowNs, p.sinceNs));
      if (swapLevel(bucket, word, stored)) {
        if (stored < -kLevelLimit) [[unlikely]] reanchor(bucket, tally, nowNs);
        return kOwn;
      }
    }
    return kContended;
  }

  // Takes up to `units`, down to a debt of one burst. Returns what was taken.
  uint64_t indebt(B& bucket, T* tally, uint64_t units, uint64_t nowNs, uint64_t validUntil) noexcept {
    for (int tries = 0; tries < kAcquireTries; ++tries) {
      Word word{bucket.word.load(std::memory_order_acquire)};
      const int64_t leased = tally ? leasedOf(static_cast<uint32_t>(&bucket - buckets_)) : 0;
      const Reading p = readParams(bucket, word.epoch());
      const Evaluation e = evaluate(word.level(), p, nowNs, validUntil, tally ? tally->fallback.load(std::memory_order_relaxed) : 0, leased);
      const int64_t floor = -static_cast<int64_t>(e.cap);
      const auto taken = std::min(static_cast<int64_t>(std::min<uint64_t>(units, kLevelLimit)), std::max<int64_t>(0, e.level - floor));
      // [tick]: as in take.
      if (tally) raiseLargestCost(static_cast<uint64_t>(taken));
      if (tally) raiseLatest(std::max(nowNs, p.sinceNs));
      const int64_t stored = e.level - taken - e.accrued;
      if (stored < -2 * kLevelLimit) [[unlikely]] reanchor(bucket, tally, nowNs);
      else if (swapLevel(bucket, word, stored)) return static_cast<uint64_t>(taken);
    }
    return 0;
  }

  int32_t borrow(T& tally, uint64_t cost, uint64_t nowNs, uint64_t validUntil, uint64_t ahead) noexcept {
    const auto wanted = static_cast<int64_t>(cost);
    // Without a controller nobody divides the reservoir: it is first come, within the resource's limit.
    const bool shared = nowNs <= validUntil;
    if (shared) {
      // relaxed: the share is a budget of its own; the reservoir's word decides.
      int64_t share = tally.borrowShare.load(std::memory_order_relaxed);
      for (int tries = 0;; ++tries) {
        if ((share & ~kMayTakeStock) < wanted + static_cast<int64_t>(ahead) || tries == kAcquireTries) return cost > capOf(kReservoir, nowNs) ? kTooLarge : kDenied;
        if (tally.borrowShare.compare_exchange_weak(share, share - wanted, std::memory_order_relaxed, std::memory_order_relaxed)) break;
      }
      if (!(share & kMayTakeStock)) ahead += stockFor(cost, nowNs);
    }
    const int32_t decision = take(buckets_[kReservoir], &tallies_[kReservoir], kReservoir, 0, cost, nowNs, validUntil, ahead);
    if (decision == kOwn) {
      tally.borrowedTokens.fetch_add(cost, std::memory_order_relaxed);
      return kBorrowed;
    }
    if (shared) tally.borrowShare.fetch_add(wanted, std::memory_order_relaxed);
    return decision;
  }

  // What a borrower without a claim on the stock leaves in the reservoir. A full one serves whatever it can hold.
  uint64_t stockFor(uint64_t cost, uint64_t nowNs) const noexcept {
    // relaxed: as the shares.
    const uint64_t stock = h_->stock.load(std::memory_order_relaxed);
    return stock ? std::min(stock, less(capOf(kReservoir, nowNs), cost)) : 0;
  }

  // Adds up to `units`; returns what found no room. A bucket under contention keeps trying within a bound,
  // and tokens that cannot be placed are lost, never doubled.
  uint64_t giveBack(B& bucket, T* tally, uint64_t units, uint64_t nowNs, uint64_t validUntil) noexcept {
    bool anew = tally != nullptr;
    for (int tries = 0; tries < kAcquireTries; ++tries) {
      Word word{bucket.word.load(std::memory_order_acquire)};
      const Reading p = readParams(bucket, word.epoch());
      if (anew && nowNs > validUntil && p.sinceNs <= validUntil) [[unlikely]] {
        // A lapsed version cuts its level off at the burst it had, which may leave no room for these.
        reanchor(bucket, tally, nowNs);
        anew = false;
        continue;
      }
      const int64_t leased = tally ? leasedOf(static_cast<uint32_t>(&bucket - buckets_)) : 0;
      const Evaluation e = evaluate(word.level(), p, nowNs, validUntil, fallbackFor(tally, p, nowNs, validUntil), leased);
      const int64_t room = std::max<int64_t>(0, static_cast<int64_t>(e.cap) - leased - e.level);
      const int64_t added = std::min<int64_t>(room, static_cast<int64_t>(std::min<uint64_t>(units, kLevelLimit)));
      if (added == 0) {
        if (bucket.word.load(std::memory_order_acquire) == word.bits) return units;
        continue;
      }
      const int64_t stored = e.level + added - e.accrued;
      if (stored < -2 * kLevelLimit) [[unlikely]] reanchor(bucket, tally, nowNs);
      else if (swapLevel(bucket, word, stored)) return units - static_cast<uint64_t>(added);
    }
    return units;
  }

  bool isLaneOrphaned(uint64_t owner) const noexcept { return !(owner & kReaping) && sharing_.isGone && sharing_.isGone(owner); }

  struct Counted {
    uint64_t admitted, admittedTokens;
  };

  Counted inLanesOf(uint32_t index) const noexcept {
    Counted sum{0, 0};
    for (uint32_t lane = 0; lane < lanesUsed(); ++lane) {
      const Row& row = parts_.lanes[lane * parts_.laneRows + index];
      sum.admitted += row.admitted.load(std::memory_order_relaxed);
      // acquire [tick]
      sum.admittedTokens += row.admittedTokens.load(std::memory_order_acquire);
    }
    return sum;
  }

  uint64_t admittedTokensOf(uint32_t index) const noexcept {
    return tallies_[index].admittedTokens.load(std::memory_order_acquire) + inLanesOf(index).admittedTokens;
  }

  FORETOKEN_INLINE void count(uint32_t index, uint64_t requests, uint64_t units) noexcept {
    // relaxed: counters are read as totals; nothing else is inferred from their order.
    // release [tick]: who sees these tokens counted sees them taken.
    if (mine_) [[likely]] {
      // No locked instruction: nobody else writes this row.
      Row& row = mine_[index];
      row.admitted.store(row.admitted.load(std::memory_order_relaxed) + requests, std::memory_order_relaxed);
      row.admittedTokens.store(row.admittedTokens.load(std::memory_order_relaxed) + units, std::memory_order_release);
      return;
    }
    tallies_[index].admitted.fetch_add(requests, std::memory_order_relaxed);
    tallies_[index].admittedTokens.fetch_add(units, std::memory_order_release);
  }

  Atomic<uint64_t>& leaseOf(uint32_t lane, uint32_t index) const noexcept { return parts_.leases[lane * parts_.leaseRows + index]; }

  [[gnu::noinline]] int64_t leasesOf(uint32_t index) const noexcept {
    uint64_t sum = 0;
    for (uint32_t lane = 0; lane < lanesUsed(); ++lane) sum += leaseOf(lane, index).load(std::memory_order_acquire);
    return static_cast<int64_t>(sum);
  }

  // Not below zero: a removed target's leases are gone already.
  static void lower(Atomic<uint64_t>& onLease, uint64_t units) noexcept {
    uint64_t seen = onLease.load(std::memory_order_relaxed);
    while (units && !onLease.compare_exchange_weak(seen, seen > units ? seen - units : 0, std::memory_order_acq_rel, std::memory_order_relaxed)) {
    }
  }

  // All leases of a lane count as spent: clipped under, then forgotten.
  void endLeases(uint32_t lane, uint64_t nowNs) noexcept {
    nowNs = asOf(nowNs);
    const uint64_t validUntil = validUntilAt(nowNs);
    for (uint32_t i = 1; i < highWater(); ++i) {
      Atomic<uint64_t>& onLease = leaseOf(lane, i);
      const uint64_t units = onLease.load(std::memory_order_acquire);
      if (units == 0) continue;
      B& bucket = buckets_[i];
      for (int tries = 0; tries < kAcquireTries; ++tries) {
        Word word{bucket.word.load(std::memory_order_acquire)};
        const Reading p = readParams(bucket, word.epoch());
        const Evaluation e = evaluate(word.level(), p, nowNs, validUntil, fallbackFor(&tallies_[i], p, nowNs, validUntil), leasedOf(i));
        const int64_t stored = e.level - e.accrued;
        if (stored < -2 * kLevelLimit) [[unlikely]] reanchor(bucket, &tallies_[i], nowNs);
        else if (swapLevel(bucket, word, stored)) break;
      }
      lower(onLease, units);
    }
  }

  int32_t deny(T& tally, uint64_t cost) noexcept {
    tally.denied.fetch_add(1, std::memory_order_relaxed);
    tally.deniedTokens.fetch_add(cost, std::memory_order_relaxed);
    return kDenied;
  }

  int32_t admitUncharged(uint32_t index, uint64_t meta, uint64_t cost) noexcept {
    // relaxed: totals.
    Uncharged<Atomic>& u = parts_.uncharged[index];
    (meta & kOff ? u.unmetered : u.passed).fetch_add(1, std::memory_order_relaxed);
    (meta & kOff ? u.unmeteredTokens : u.passedTokens).fetch_add(cost, std::memory_order_relaxed);
    return kUncharged;
  }

  void raiseLargestCost(uint64_t cost) noexcept {
    uint64_t seen = h_->largestCost.load(std::memory_order_relaxed);
    while (seen < cost && !h_->largestCost.compare_exchange_weak(seen, cost, std::memory_order_relaxed, std::memory_order_relaxed)) {
    }
  }

  // relaxed [tick]: the swap that takes the tokens comes after it and releases it.
  void raiseLatest(uint64_t atNs) noexcept {
    uint64_t seen = h_->latestNs.load(std::memory_order_relaxed);
    while (seen < atNs && !h_->latestNs.compare_exchange_weak(seen, std::min(atNs + kAheadNs, kLatestNs), std::memory_order_relaxed,
                                                              std::memory_order_relaxed)) {
    }
  }

  // The time a reading counts as. What a full bucket had clipped until the last tick was handed on then: whoever
  // clipped it as of an earlier time would have that refill once more.
  // seq_cst [tick]: of a thread whose swap a tick did not see only that one request can have missed the tick's time.
  uint64_t asOf(uint64_t nowNs) const noexcept { return std::max(nowNs, h_->tickedNs.load(std::memory_order_seq_cst)); }

  // Starts a new epoch with the same parameters, because the level has wandered far from its reference.
  // Happens after days of full load in one epoch; whoever finds the lock taken leaves it to the next.
  void reanchor(B& bucket, T* tally, uint64_t nowNs) noexcept {
    uint64_t free = 0;
    if (!h_->writerLock.compare_exchange_strong(free, sharing_.self, std::memory_order_acquire, std::memory_order_relaxed)) return;
    reanchorLocked(bucket, tally, nowNs);
    h_->writerLock.store(0, std::memory_order_release);
  }

  Status reanchorLocked(B& bucket, T* tally, uint64_t nowNs) noexcept {
    return publishBucket(bucket, tally, tally && lapsedAt(nowNs), [nowNs] { return nowNs; }, [](const Evaluation& e, const Reading& p, Change& c) {
      c = keepDeposit(p, encode(p.rate), encode(p.burst), e.level, c.leased);
      return true;
    });
  }

  // [epoch] One change of parameters: settle under the old version, write the other copy, swap. The clock
  // is read after the word, so no request that the word contains happened later than the change.
  //
  // [validity] A version made under a promise is dated within it and falls back with it; a change that is
  // overtaken by the lapse is refused. One made after the lapse is dated after it, whatever the clock says,
  // starts from what holds without a controller, and holds as it stands.
  template <class Clock, class Fn>
  Status publishBucket(B& bucket, T* tally, bool lapsed, Clock&& clock, Fn&& decide) noexcept {
    for (int tries = 0; tries < kPublishTries; ++tries) {
      Word word{bucket.word.load(std::memory_order_acquire)};
      const Reading p = readParams(bucket, word.epoch());
      uint64_t now = std::max(asOf(clock()), p.sinceNs);
      const uint64_t validUntil = tally ? peekValidUntil() : 0;
      if (lapsed) now = std::max(now, validUntil + 1);
      else if (tally && now > validUntil) return kLapsed;
      const uint64_t fallback = tally ? tally->fallback.load(std::memory_order_relaxed) : 0;
      // [lease]: after the word and the clock.
      const int64_t leased = tally ? leasedOf(static_cast<uint32_t>(&bucket - buckets_)) : 0;
      const Evaluation e = evaluate(word.level(), p, now, validUntil, fallback, leased);
      Change c{};
      c.leased = leased;
      if (!decide(e, lapsed ? without(p, validUntil, fallback) : p, c)) return kInvalid;
      uint64_t expiry = 0;
      if (c.deposit && c.depositUntilNs > now) expiry = std::min<uint64_t>((c.depositUntilNs >> kExpiryShift) - (now >> kExpiryShift), UINT32_MAX);
      const auto epoch = static_cast<uint8_t>(word.epoch() + 1);
      const int64_t most = static_cast<int64_t>(decode(c.burst) + (expiry ? decode(c.deposit) : 0)) - c.leased;
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
  Status publish(uint32_t index, bool lapsed, Clock&& clock, Fn&& decide) noexcept {
    return publishBucket(buckets_[index], &tallies_[index], lapsed, clock, decide);
  }

  // A change of several buckets is made for one state of the promise. If the lapse comes in between, it is
  // made again for what holds then; a lapse sticks, so once is enough.
  template <class Clock, class Fn>
  Status settled(Clock&& clock, Fn&& change) noexcept {
    const Status s = change(lapsedAt(clock()));
    return s == kLapsed ? change(lapsedAt(clock())) : s;
  }

  template <class Clock>
  Status growReservoir(uint64_t rate, uint64_t burst, int64_t level, bool lapsed, Clock&& clock) noexcept {
    return publish(kReservoir, lapsed, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
      c = Change{encode(p.rate + rate), encode(p.burst + burst), 0, 0, e.level + level};
      return true;
    });
  }

  // What lies above the burst is what is left of the deposit. If it expired a while ago, refill since then
  // counts as deposit too, up to its amount: the burst under it had not been given to anyone else. [lease] What is on
  // lease lies in that burst.
  template <class Clock>
  int64_t reclaimLocked(uint32_t index, bool early, bool lapsed, Clock&& clock) noexcept {
    const Reading p = current(index);
    if (p.deposit == 0 || (!early && asOf(clock()) < p.depositUntilNs)) return 0;
    int64_t unused = 0;
    Status s = publish(index, lapsed, clock, [&](const Evaluation& e, const Reading& now, Change& c) {
      const auto most = static_cast<int64_t>(now.burst) - c.leased, deposit = static_cast<int64_t>(now.deposit);
      unused = std::min(cutOff(std::min(e.level + e.overflow, most + deposit), most), deposit);
      c = Change{encode(now.rate), encode(now.burst), 0, 0, e.level, c.leased};
      return true;
    });
    if (s == kOk) s = growReservoir(0, p.deposit, unused, lapsed, clock);
    return s == kOk ? unused : 0;
  }

  template <class Clock>
  int64_t reclaimAllExpired(bool lapsed, Clock&& clock) noexcept {
    int64_t back = 0;
    for (uint32_t i = 1; i < highWater(); ++i)
      if (current(i).deposit) back += reclaimLocked(i, false, lapsed, clock);
    return back;
  }

  // Whether the promise has lapsed. If so it has stuck, with a date, and does whatever the clock says later.
  bool lapsedAt(uint64_t nowNs) noexcept {
    const Promise promise = promiseAt(nowNs);
    return promise.hasLapsed() && lapse(promise, promise.untilNs() + 1).hasLapsed();
  }

  template <class Clock>
  Status setFallbackLocked(uint32_t index, uint64_t next, bool lapsed, Clock&& clock) noexcept {
    const uint64_t old = tallies_[index].fallback.load(std::memory_order_relaxed);
    const uint64_t rest = tallies_[kReservoir].fallback.load(std::memory_order_relaxed);
    const uint64_t otherRates = h_->fallbackRates.load(std::memory_order_relaxed) - rateOf(old);
    const uint64_t otherBursts = h_->fallbackBursts.load(std::memory_order_relaxed) - burstOf(old);
    const uint64_t rate = less(h_->resourceRate.load(std::memory_order_relaxed), otherRates);
    const uint64_t burst = less(h_->resourceBurst.load(std::memory_order_relaxed), otherBursts);
    if (rateOf(next) > rate) return kOverFallbackRate;
    if (burstOf(next) > burst) return kOverFallbackBurst;
    const uint64_t left = join(encode(rate - rateOf(next)), encode(burst - burstOf(next)));
    const auto store = [&](uint64_t own, uint64_t reservoir) {
      tallies_[kReservoir].fallback.store(reservoir, std::memory_order_relaxed);
      tallies_[index].fallback.store(own, std::memory_order_relaxed);
      h_->fallbackRates.store(otherRates + rateOf(own), std::memory_order_relaxed);
      h_->fallbackBursts.store(otherBursts + burstOf(own), std::memory_order_relaxed);
    };
    if (lapsed) {
      const Status s = shift(index, next, left, clock);
      if (s != kOk) return s;
    } else {
      // Both are lowered before either is raised, and raised only if the promise has not lapsed meanwhile:
      // then nobody has yet drawn on what is taken away.
      store(lesser(old, next), lesser(rest, left));
      if (lapsedAt(clock())) return kLapsed;
    }
    store(next, left);
    return kOk;
  }

  // Without a live controller the parameters themselves are the fallback, so a change of it moves rate and
  // burst between the reservoir and a target at once, and tokens with the burst they lie under.
  template <class Clock>
  Status shift(uint32_t index, uint64_t next, uint64_t left, Clock&& clock) noexcept {
    int64_t given = 0, cut = 0;
    Status s = publish(kReservoir, true, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
      const uint64_t low = lesser(join(encode(p.rate), encode(p.burst)), left);
      given = std::clamp<int64_t>(e.level, 0, static_cast<int64_t>(p.burst - burstOf(low)));
      c = Change{static_cast<uint32_t>(low), static_cast<uint32_t>(low >> 32), 0, 0, e.level - given};
      return true;
    });
    if (s != kOk) return s;
    s = publish(index, true, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
      const uint64_t low = lesser(join(encode(p.rate), encode(p.burst)), next);
      cut = cutOff(e.level, static_cast<int64_t>(burstOf(low)) - c.leased);
      c = Change{static_cast<uint32_t>(low), static_cast<uint32_t>(low >> 32), 0, 0, e.level, c.leased};
      return true;
    });
    if (s != kOk) return s;
    s = publish(kReservoir, true, clock, [&](const Evaluation& e, const Reading&, Change& c) {
      c = Change{static_cast<uint32_t>(left), static_cast<uint32_t>(left >> 32), 0, 0, e.level + cut};
      return true;
    });
    if (s != kOk) return s;
    return publish(index, true, clock, [&](const Evaluation& e, const Reading&, Change& c) {
      c = Change{static_cast<uint32_t>(next), static_cast<uint32_t>(next >> 32), 0, 0, e.level + given, c.leased};
      return true;
    });
  }

  // Every slot takes on its fallback parameters as its own, levels carried over, deposits ended. They hold
  // already, because the promise has lapsed, so no order is needed. Raises `latestNs` to the youngest version.
  template <class Clock>
  Status adoptFallbacks(uint64_t& latestNs, Clock&& clock) noexcept {
    for (uint32_t i = 0; i < highWater(); ++i) {
      if (written(buckets_[i]).sinceNs <= peekValidUntil()) {
        const Status s = publish(i, true, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
          c = Change{encode(p.rate), encode(p.burst), 0, 0, e.level, c.leased};
          return true;
        });
        if (s != kOk) return s;
      }
      latestNs = std::max(latestNs, written(buckets_[i]).sinceNs);
    }
    return kOk;
  }

  // Puts right what a writer that died may have left half done. Slots on their way in or out are freed; the sums
  // and the queue of freed slots are made anew; the reservoir gets what the targets leave. Tokens that were on
  // their way are lost. The directory is built anew when it is next asked.
  template <class Clock>
  void repair(Clock&& clock) noexcept {
    settled(clock, [&](bool lapsed) {
      uint64_t latest = 0;
      if (lapsed)
        if (const Status s = adoptFallbacks(latest, clock); s != kOk) return s;
      uint64_t rates = 0, bursts = 0, fallbackRates = 0, fallbackBursts = 0;
      uint32_t live = 0, head = 0, tail = 0;
      for (uint32_t i = 1; i < highWater(); ++i) {
        const uint64_t meta = buckets_[i].meta.load(std::memory_order_relaxed);
        if (meta & kLive) {
          const Reading p = current(i);
          const uint64_t fallback = tallies_[i].fallback.load(std::memory_order_relaxed);
          ++live;
          rates += p.rate;
          bursts += p.burst + p.deposit;
          fallbackRates += rateOf(fallback);
          fallbackBursts += burstOf(fallback);
          continue;
        }
        const Status s = publish(i, lapsed, clock, [](const Evaluation&, const Reading&, Change& c) {
          c = Change{0, 0, 0, 0, 0};
          return true;
        });
        if (s != kOk) return s;
        tallies_[i].fallback.store(0, std::memory_order_relaxed);
        for (uint32_t lane = 0; lane < lanesUsed(); ++lane) leaseOf(lane, i).store(0, std::memory_order_release);
        buckets_[i].meta.store(meta >> 32 << 32, std::memory_order_relaxed);
        if (tail) buckets_[tail].meta.fetch_add(static_cast<uint64_t>(i) << kNextShift, std::memory_order_relaxed);
        else head = i;
        tail = i;
      }
      h_->freeHead.store(head, std::memory_order_relaxed);
      h_->freeTail.store(tail, std::memory_order_relaxed);
      h_->liveTargets.store(live, std::memory_order_relaxed);
      h_->fallbackRates.store(fallbackRates, std::memory_order_relaxed);
      h_->fallbackBursts.store(fallbackBursts, std::memory_order_relaxed);
      const uint64_t maxRate = h_->resourceRate.load(std::memory_order_relaxed);
      const uint64_t maxBurst = h_->resourceBurst.load(std::memory_order_relaxed);
      tallies_[kReservoir].fallback.store(join(encode(less(maxRate, fallbackRates)), encode(less(maxBurst, fallbackBursts))),
                                          std::memory_order_relaxed);
      // [tick]: what the last one saw may be half of what it was.
      h_->tickNs.store(0, std::memory_order_relaxed);
      return publish(kReservoir, lapsed, clock, [&](const Evaluation& e, const Reading&, Change& c) {
        c = Change{encode(less(maxRate, rates)), encode(less(maxBurst, bursts)), 0, 0, e.level};
        return true;
      });
    });
    h_->repairs.fetch_add(1, std::memory_order_relaxed);
  }

  void resetTally(uint32_t index) noexcept {
    T& t = tallies_[index];
    C& c = completions_[index];
    constexpr auto relaxed = std::memory_order_relaxed;  // published by the slot's new generation
    // [tick]: what the last owner was admitted leaves the sums on both sides.
    h_->tickAdmitted.fetch_sub(admittedTokensOf(index), relaxed);
    const Counted lanes = inLanesOf(index);
    t.admitted.store(0 - lanes.admitted, relaxed);
    t.admittedTokens.store(0 - lanes.admittedTokens, relaxed);
    for (auto* a : {&t.denied, &t.deniedTokens, &t.borrowedTokens, &t.fallback, &t.waitUntilNs,
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
  L* lines_ = nullptr;
  Atomic<uint64_t>* tickets_ = nullptr;  // a row of every slot for each seat
  Sharing<H> sharing_{};
  uint64_t term_ = 0;  // what is done under the controller role; 0: not bound to it
  Parts parts_{};
  // This thread's lane, if it has one.
  Row* mine_ = nullptr;
  uint32_t lane_ = kLanes;
};

}  // namespace foretoken
