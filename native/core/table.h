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
//
// What is longer than a few lines lies beside it, in the files that are included at the end.
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
  FORETOKEN_INLINE bool acquirePlain(const Time& time, uint64_t handle, uint64_t cost) noexcept;

  [[gnu::noinline]] int32_t acquireAny(Slot slot, uint64_t cost, uint64_t nowNs, bool inLine = false, uint64_t ahead = 0) noexcept;

  // One that costs more than can be counted in units: kTooLarge, unless nobody is denied.
  int32_t acquireBeyond(Slot slot) noexcept {
    if (!isLive(slot)) return kBadHandle;
    const uint64_t meta = buckets_[slot.index].meta.load(std::memory_order_acquire);
    return meta & (kShadow | kOff) ? admitUncharged(slot.index, meta, 0) : static_cast<int32_t>(kTooLarge);
  }

  // `acquireAny` as if enforced.
  int32_t judge(Slot slot, uint64_t meta, uint64_t cost, uint64_t nowNs, bool inLine, uint64_t ahead) noexcept;

  // Returns tokens of an admitted request. Nobody knows which: what was admitted without tokens in the present mode
  // comes first, so that no refund of it makes any. What would lift the level above its burst is dropped and
  // counted, and no more comes back than was ever charged.
  int32_t refund(Slot slot, uint64_t units, uint64_t nowNs) noexcept;

  // Charges what a request turned out to cost beyond its estimate. It was served already, so the charge
  // cannot be denied: it leaves a debt, at most one burst deep, in the bucket and under the limit alike, so
  // that a refund of it brings back what it took from either. Returns the units really charged.
  uint64_t charge(Slot slot, uint64_t units, uint64_t nowNs) noexcept;

  int32_t complete(Slot slot, uint64_t readBytes, uint64_t writeBytes, uint64_t durationNs) noexcept;

  // What the target could take now, and how long until it could take `cost`. Changes nothing.
  int32_t peek(Slot slot, uint64_t cost, uint64_t nowNs, Peek& out) const noexcept;

  // The most a request of this target may ever cost at once under the present parameters. One that has been
  // given nothing yet may come to have all of it, so nothing is too large for it for ever.
  uint64_t largestAdmissible(Slot slot, uint64_t nowNs) const noexcept;

  bool isLive(Slot slot) const noexcept {
    if (slot.index == kReservoir || slot.index >= slots()) return false;
    const uint64_t meta = buckets_[slot.index].meta.load(std::memory_order_acquire);
    return (meta >> 32) == slot.generation && (meta & kLive);
  }

  // `nowNs` tells whether a line forms; then leases of the target end, so that nobody overtakes it.
  void waitInLine(uint32_t index, uint64_t untilNs, uint64_t nowNs) noexcept;

  // ---- lanes and leases -----------------------------------------------------------------------------

  // Gives this table's thread a lane for its counters and leases, if one is free or its owner is dead; without one
  // it counts in the tallies.
  bool claimLane(uint64_t nowNs) noexcept;

  void releaseLane(uint64_t nowNs) noexcept {
    if (!mine_) return;
    endLeases(lane_, nowNs);
    mine_ = nullptr;
    h_->laneOwners[lane_].store(0, std::memory_order_release);
  }

  // Ends the leases of those who died with them. What they held counts as admitted.
  void reapLanes(uint64_t nowNs) noexcept;

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
  int32_t lease(Slot slot, Holding held, uint64_t want, uint64_t least, uint64_t nowNs, Lease& out) noexcept;

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
                        uint64_t& ahead) noexcept;

  // The thread has nobody in this line any more. Newcomers pass again if nobody else has.
  void leaveLine(uint32_t index, uint32_t seat, uint64_t nowNs) noexcept;

  // Whether a newcomer has to wait behind others. Nobody waits where nobody is denied.
  bool isLineHeld(uint32_t index, uint64_t nowNs) const noexcept {
    if (index >= slots() || (buckets_[index].meta.load(std::memory_order_acquire) & (kShadow | kOff))) return false;
    // relaxed: see acquire.
    return tallies_[index].waitUntilNs.load(std::memory_order_relaxed) > nowNs;
  }

  // What the line wants, all together; those who gave up behind the first count until it has moved on.
  uint64_t tokensWaiting(uint32_t index, uint64_t nowNs) const noexcept;

  // A seat for a thread, or kSeats when all are taken. Nobody's tickets are left in its row.
  uint32_t takeSeat() noexcept;

  void leaveSeat(uint32_t seat) noexcept {
    h_->seats[seat].untilNs.store(0, std::memory_order_release);
    h_->seats[seat].owner.store(0, std::memory_order_release);
  }

  // Shows that the thread is there. Returns how many changes there have been, for due times.
  uint64_t showLife(uint32_t seat, uint64_t untilNs) noexcept {
    if (seat < kSeats) h_->seats[seat].untilNs.store(untilNs, std::memory_order_release);
    return h_->changes.load(std::memory_order_acquire);
  }

  Counters counters(uint32_t index) const noexcept;

  LevelReading levelOf(uint32_t index, uint64_t nowNs) const noexcept;

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
  void initialise(uint64_t rate, uint64_t burst, uint64_t nowNs) noexcept;

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
  Status addLocked(uint64_t flags, Slot& out, Clock&& clock, Fn&& prepare) noexcept;

  // Frees a slot. What it held goes to the reservoir; requests with its handle get kBadHandle from now on.
  template <class Clock>
  Status removeTarget(Slot slot, Clock&& clock) noexcept {
    return exclusively([&] { return removeLocked(slot, clock); });
  }

  template <class Clock>
  Status removeLocked(Slot slot, Clock&& clock) noexcept;

  // Sets the target's ceiling; both zero removes it. Raising a ceiling grants time, not tokens.
  template <class Clock>
  Status setLimit(Slot slot, uint64_t rate, uint64_t burst, Clock&& clock) noexcept;

  Status setMayBorrow(Slot slot, bool may) noexcept;

  // From the next request on, in every thread and process. The target keeps its rate, burst and tokens.
  Status setMode(Slot slot, Mode mode, uint64_t nowNs) noexcept;

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
  Status allocate(Share* shares, uint32_t count, bool reservoirTakesRest, Clock&& clock) noexcept;

  // Moves up to `units` of level and burst from the reservoir into a bucket, to expire at `untilNs`. Adds
  // to a deposit that is already there and extends it. Returns the units moved.
  template <class Clock>
  uint64_t deposit(Slot slot, uint64_t units, uint64_t untilNs, Clock&& clock) noexcept;

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
  template <class Clock>
  TickResult tick(uint32_t otherThreads, Clock&& clock) noexcept;

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
  Status setFallbacks(const Share* shares, uint32_t count, Clock&& clock) noexcept;

  // Gives a target that nothing was allocated to yet its fallback rate and burst, as far as the reservoir has
  // them left, and the tokens that lie under that burst. So it need not wait for the next allocation.
  template <class Clock>
  Status endow(Slot slot, Clock&& clock) noexcept;

  // Says that a controller is alive until `untilNs`. If the last promise lapsed, every slot first takes on
  // its fallback parameters for good, so that nothing accrues twice; the caller then allocates anew.
  template <class Clock>
  Status extendValidity(uint64_t untilNs, bool& resumed, Clock&& clock) noexcept;

  // Changes the resource's limits. Refused while more is allocated than the new ones allow.
  template <class Clock>
  Status setResource(uint64_t rate, uint64_t burst, Clock&& clock) noexcept;

  // ---- the controller role --------------------------------------------------------------------------

  // Takes the role if nobody holds it, its time has run out, or its holder is gone. Returns the term, 0 if it is not
  // to be had. Everything done through this table object is from then on refused once the role has gone to another.
  template <class Clock>
  uint64_t takeRole(uint64_t forNs, Clock&& clock) noexcept;

  template <class Clock>
  Status renewRole(uint64_t forNs, Clock&& clock) noexcept;

  void leaveRole() noexcept;

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

  uint64_t firstTicket(uint32_t index, uint32_t except, uint64_t nowNs) const noexcept;

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
               uint64_t ahead) noexcept;
  uint64_t indebt(B& bucket, T* tally, uint64_t units, uint64_t nowNs, uint64_t validUntil) noexcept;
  int32_t borrow(T& tally, uint64_t cost, uint64_t nowNs, uint64_t validUntil, uint64_t ahead) noexcept;

  // What a borrower without a claim on the stock leaves in the reservoir. A full one serves whatever it can hold.
  uint64_t stockFor(uint64_t cost, uint64_t nowNs) const noexcept {
    // relaxed: as the shares.
    const uint64_t stock = h_->stock.load(std::memory_order_relaxed);
    return stock ? std::min(stock, less(capOf(kReservoir, nowNs), cost)) : 0;
  }

  uint64_t giveBack(B& bucket, T* tally, uint64_t units, uint64_t nowNs, uint64_t validUntil) noexcept;

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

  void endLeases(uint32_t lane, uint64_t nowNs) noexcept;

  int32_t deny(T& tally, uint64_t cost) noexcept {
    tally.denied.fetch_add(1, std::memory_order_relaxed);
    tally.deniedTokens.fetch_add(cost, std::memory_order_relaxed);
    return kDenied;
  }

  int32_t admitUncharged(uint32_t index, uint64_t meta, uint64_t cost) noexcept;

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

  Status reanchorLocked(B& bucket, T* tally, uint64_t nowNs) noexcept;
  template <class Clock, class Fn>
  Status publishBucket(B& bucket, T* tally, bool lapsed, Clock&& clock, Fn&& decide) noexcept;

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
  Status growReservoir(uint64_t rate, uint64_t burst, int64_t level, bool lapsed, Clock&& clock) noexcept;
  template <class Clock>
  int64_t reclaimLocked(uint32_t index, bool early, bool lapsed, Clock&& clock) noexcept;

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
  Status setFallbackLocked(uint32_t index, uint64_t next, bool lapsed, Clock&& clock) noexcept;
  template <class Clock>
  Status shift(uint32_t index, uint64_t next, uint64_t left, Clock&& clock) noexcept;
  template <class Clock>
  Status adoptFallbacks(uint64_t& latestNs, Clock&& clock) noexcept;
  template <class Clock>
  void repair(Clock&& clock) noexcept;
  void resetTally(uint32_t index) noexcept;

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

#include "table-requests.h"
#include "table-leases.h"
#include "table-line.h"
#include "table-control.h"
#include "table-tick.h"
#include "table-role.h"
