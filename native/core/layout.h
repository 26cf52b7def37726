// The shared region's layout. This file is the format: every field has its offset asserted, and what
// is laid down here is read by every thread and process that attaches. native/README.md explains it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

// The compiler leaves the larger parts of a decision as calls of their own, which costs a fifth of it.
#define FORETOKEN_INLINE [[gnu::always_inline]] inline

namespace foretoken {

inline constexpr uint64_t kMagic = 0x31304E4B544F4652ull;  // "RFOTKN01" read as little-endian bytes
inline constexpr uint32_t kAbi = 10;
inline constexpr uint32_t kMaxCapacity = (1u << 24) - 2;

// Threads beyond these count in the tallies, and cannot lease.
inline constexpr uint32_t kLanes = 8;

// Slot 0 is the reservoir; targets have slots 1 to capacity.
inline constexpr uint32_t kReservoir = 0;

enum class ClockKind : uint32_t { kVirtual = 0, kMonotonic = 1, kTsc = 2 };

// What a decision says. Positive: admitted, and from where. Zero: denied. Negative: misuse.
enum Decision : int32_t {
  kOwn = 1,
  kBorrowed = 2,
  kUncharged = 3,  // without tokens, because the target is not enforced
  kDenied = 0,
  kBadHandle = -1,
  kBadCost = -2,
  kTooLarge = -3,
  kClosed = -4,
  kContended = -5,
};

// What a call of the control plane says.
enum Status : int32_t {
  kOk = 0,
  kStale = -1,
  kInvalid = -2,
  kOverRate = -10,
  kOverBurst = -11,
  kOverFallbackRate = -12,
  kOverFallbackBurst = -13,
  kFull = -14,
  kBusy = -15,
  kLapsed = -16,
  kDeposed = -17,  // the controller role has gone to another
  kNoSeat = -18,
};

// What becomes of a decision. Only in kEnforce is it one.
enum class Mode : uint32_t {
  kEnforce = 0,
  kShadow = 1,  // decided and counted as in kEnforce, but who would be denied is admitted without tokens
  kOff = 2,     // everybody is admitted without tokens
};

// Until when the allocation holds, region ns shifted left by one; the low bit says that it has lapsed. A promise is until
// an odd time and a lapse is dated to an even one, so a lapse that has no date yet can be told: its time is the promise's.
struct Promise {
  uint64_t bits;
  static constexpr Promise until(uint64_t ns) noexcept { return {(ns | 1) << 1}; }
  // At this time or one later.
  static constexpr Promise lapsedAt(uint64_t ns) noexcept { return {(ns + (ns & 1)) << 1 | 1}; }
  constexpr uint64_t untilNs() const noexcept { return bits >> 1; }
  constexpr bool hasLapsed() const noexcept { return bits & 1; }
  constexpr bool isDated() const noexcept { return (bits & 3) == 1; }
  constexpr Promise broken() const noexcept { return {bits | 1}; }
};

// Bits of Bucket::meta, whose upper half is the slot's generation. A freed slot has none of the flags, and in
// bits 8 to 31 the number of the slot freed after it.
inline constexpr uint64_t kLive = 1;
inline constexpr uint64_t kHasLimit = 2;
inline constexpr uint64_t kMayBorrow = 4;
inline constexpr uint64_t kHasLine = 16;  // Tally::waitUntilNs may be to come
inline constexpr uint64_t kShadow = 32, kOff = 64;  // at most one of them: Mode
inline constexpr uint64_t kHasUncharged = 128;      // it has been in another mode than kEnforce: see Uncharged
inline constexpr uint64_t kLeased = 8;  // some thread has held a lease of it: see Table::leasedOf
inline constexpr unsigned kNextShift = 8;
inline constexpr unsigned kIndexBits = 24;
inline constexpr uint32_t kIndexMask = (1u << kIndexBits) - 1;

// A bit of Tally::borrowShare beside the units: the target may take the reservoir's stock too.
inline constexpr int64_t kMayTakeStock = int64_t{1} << 62;

// Rates and bursts are stored in 32 bits: 26 bits of mantissa, 6 of exponent, rounded down. Decoded they
// are integers, so sums over them are exact; rounding down can only leave tokens unallocated
// (at most 2^-25 of each), never exceed a sum.
inline constexpr uint32_t kMantissaBits = 26;
inline constexpr uint64_t kMantissaMask = (1ull << kMantissaBits) - 1;

constexpr uint64_t decode(uint32_t code) noexcept {
  return (code & kMantissaMask) << (code >> kMantissaBits);
}

constexpr uint32_t encode(uint64_t value) noexcept {
  uint32_t exponent = 0;
  while ((value >> exponent) > kMantissaMask) ++exponent;
  // 37 is the largest exponent whose decoded value still fits in 63 bits.
  if (exponent > 37) return (37u << kMantissaBits) | static_cast<uint32_t>(kMantissaMask);
  return (exponent << kMantissaBits) | static_cast<uint32_t>(value >> exponent);
}

// One version of a bucket's parameters. Two of them lie in a bucket; the epoch in its word picks one.
template <template <class> class Atomic>
struct Params {
  Atomic<uint64_t> sinceNs;        // region time at which this version took effect
  Atomic<uint64_t> rateAndBurst;   // rate code in the low half, burst code in the high half
  Atomic<uint64_t> deposit;        // amount code in the low half, expiry in the high half, in units of
                                   // 2^20 ns after the one that sinceNs lies in
};

// Everything a decision needs to read, on one cache line. `word` alone is changed by requests: a small epoch in
// its low 8 bits and the level, referred to Params::sinceNs, in the upper 56 (signed, token units).
template <template <class> class Atomic>
struct alignas(64) Bucket {
  Atomic<uint64_t> word;
  Params<Atomic> params[2];
  Atomic<uint64_t> meta;  // generation in the high half, flags in the low half
};

// What a decision needs only sometimes: counters of denials and of threads without a lane, what a borrower may
// still take in this tick, and the parameters that hold when no controller is alive.
template <template <class> class Atomic>
struct alignas(64) Tally {
  Atomic<uint64_t> admitted;
  Atomic<uint64_t> admittedTokens;  // token units, net of refunds
  Atomic<uint64_t> denied;
  Atomic<uint64_t> deniedTokens;
  Atomic<uint64_t> borrowedTokens;
  Atomic<int64_t> borrowShare;   // token units left to borrow in this tick, and kMayTakeStock
  Atomic<uint64_t> fallback;     // rate code in the low half, burst code in the high half
  Atomic<uint64_t> waitUntilNs;  // while later than now, requests wait in line and newcomers are denied
};

// Counters of one thread, which alone writes them, so that counting costs no locked instruction. A lane is a
// row per slot; a target's totals are its tally and its row in every lane. Rows are never reset: what a slot's
// last owner had is taken off its tally.
template <template <class> class Atomic>
struct Lane {
  Atomic<uint64_t> admitted;
  Atomic<uint64_t> admittedTokens;
};

// Written on completion, apart from what a decision touches.
template <template <class> class Atomic>
struct alignas(32) Completion {
  Atomic<uint64_t> count;
  Atomic<uint64_t> readBytes;
  Atomic<uint64_t> writeBytes;
  Atomic<uint64_t> durationNs;
};

// What a target was admitted without tokens. Begins when it first leaves Mode::kEnforce, and only then is its page
// touched. Tokens are net of refunds.
template <template <class> class Atomic>
struct alignas(32) Uncharged {
  Atomic<uint64_t> passed;  // in kShadow; these are among the denials too
  Atomic<uint64_t> passedTokens;
  Atomic<uint64_t> unmetered;  // in kOff
  Atomic<uint64_t> unmeteredTokens;
};

// Those who wait for a target, over all threads and processes.
template <template <class> class Atomic>
struct alignas(16) Line {
  Atomic<uint64_t> tickets;  // token units ever asked for in this line: where the next ticket begins
  Atomic<uint64_t> seats;    // the seats that have someone in it, one bit each
};

// A thread that waits for targets. For each of them its first ticket lies in the seat's row of tickets, 0 for
// none. A seat whose time has run out is passed over: its thread is dead or held up.
template <template <class> class Atomic>
struct Seat {
  Atomic<uint64_t> owner;  // identity of its process, 0 when free
  Atomic<uint64_t> untilNs;
};

// A process that has the region mapped.
template <template <class> class Atomic>
struct Member {
  Atomic<uint64_t> owner;  // 0 when free
  Atomic<uint64_t> threads;
};

inline constexpr uint32_t kSeats = 64;
inline constexpr uint32_t kMembers = 64;

template <template <class> class Atomic>
struct Header {
  // Constant once `ready` is set.
  uint64_t magic;
  uint32_t abi;
  uint32_t headerBytes;
  uint32_t capacity;
  ClockKind clockKind;
  int32_t tokenShift;  // a token is 2^tokenShift units
  uint32_t bucketBytes;
  uint64_t regionBytes;
  uint64_t areaOffset;  // free memory for whoever opened the region, after the arrays
  uint64_t areaBytes;
  uint64_t originNs;    // CLOCK_MONOTONIC at region time 1
  uint64_t tscOrigin;
  uint64_t tscMultiplier;  // ns per tick, 32.32 fixed point, less than one
  Atomic<uint32_t> ready;  // the ABI's number once everything above is written
  uint32_t reserved0;
  uint64_t pidSpace;        // where identities of processes mean something: the PID namespace, 0 where there is one
  uint64_t directoryBytes;  // 0 in a table without names
  uint8_t pad0[24];

  // Read by every decision, written rarely.
  Atomic<uint64_t> validUntil;  // see Promise
  Atomic<uint64_t> largestCost;
  Atomic<uint64_t> virtualNs;
  Atomic<uint64_t> latestNs;  // no request took tokens later than this
  Atomic<uint64_t> tickedNs;  // until here ticks have handed on: a request with an older reading is decided as of then
  Atomic<uint64_t> stock;     // units that borrowers leave in the reservoir unless they may take them
  uint8_t pad1[16];

  // The control plane's own.
  Atomic<uint64_t> writerLock;     // identity of the process that changes something, 0 when free
  Atomic<uint64_t> resourceRate;   // units per second
  Atomic<uint64_t> resourceBurst;  // units
  Atomic<uint64_t> refundsDropped;  // units of refunds that would have lifted a level above its burst
  Atomic<uint32_t> highWater;       // slots ever used, the reservoir included
  Atomic<uint32_t> freeHead;        // first of the freed slots, 0 if none
  Atomic<uint32_t> freeTail;
  Atomic<uint32_t> liveTargets;
  // Work conservation: what the last tick saw, to bound what it may hand back.
  Atomic<uint64_t> tickNs;
  Atomic<int64_t> tickHeld;
  Atomic<uint64_t> tickAdmitted;
  // Who runs the loops, until when. The term rises whenever the role changes hands; who acts under an older one
  // is refused. All 0 in tables of one process.
  Atomic<uint64_t> controllerPid;  // identity
  Atomic<uint64_t> controllerUntilNs;
  Atomic<uint64_t> controllerTerm;
  // Sums of the targets' fallbacks, so that what is left for the reservoir is computed anew each time and
  // rounding does not add up.
  Atomic<uint64_t> fallbackRates;
  Atomic<uint64_t> fallbackBursts;
  Atomic<uint64_t> refunded;  // units ever refunded, dropped ones included
  // Rises with every change of rates, bursts, deposits or shares: whoever waits computes its due time anew.
  Atomic<uint64_t> changes;
  Atomic<uint64_t> repairs;  // times that a writer was found dead and what it had begun put right
  // Tables opened by name only. The roster's version rises whenever a target comes, goes or is set anew.
  Atomic<uint64_t> rosterVersion;
  Atomic<uint64_t> rosterRepairs;  // `repairs` when the directory was last built anew
  Atomic<int64_t> tickLeased;      // units the last tick found on lease
  // What the table was made with: whoever opens it by name gives the same, whatever the rate has become since.
  Atomic<uint64_t> firstRate;   // units per second
  Atomic<uint64_t> firstBurst;  // units
  Atomic<uint64_t> hasLeased;   // 1 once anybody has leased
  uint8_t pad2[24];

  Seat<Atomic> seats[kSeats];
  Member<Atomic> members[kMembers];
  // Who counts in which lane: identity of its process, 0 when free.
  Atomic<uint64_t> laneOwners[kLanes];
  Atomic<uint32_t> lanesUsed;  // lanes ever owned; the others are all zero
};

using PlainHeader = Header<std::atomic>;
using PlainBucket = Bucket<std::atomic>;
using PlainTally = Tally<std::atomic>;
using PlainLane = Lane<std::atomic>;
using PlainCompletion = Completion<std::atomic>;
using PlainLine = Line<std::atomic>;
using PlainUncharged = Uncharged<std::atomic>;

static_assert(std::atomic<uint64_t>::is_always_lock_free && sizeof(std::atomic<uint64_t>) == 8);
static_assert(sizeof(PlainBucket) == 64 && offsetof(PlainBucket, params) == 8 && offsetof(PlainBucket, meta) == 56);
static_assert(sizeof(PlainTally) == 64 && offsetof(PlainTally, borrowShare) == 40 && offsetof(PlainTally, waitUntilNs) == 56);
static_assert(sizeof(PlainCompletion) == 32 && sizeof(PlainLane) == 16);
static_assert(sizeof(PlainLine) == 16 && sizeof(PlainUncharged) == 32);
static_assert(offsetof(PlainHeader, magic) == 0 && offsetof(PlainHeader, abi) == 8 && offsetof(PlainHeader, capacity) == 16);
static_assert(offsetof(PlainHeader, regionBytes) == 32 && offsetof(PlainHeader, originNs) == 56 && offsetof(PlainHeader, ready) == 80);
static_assert(offsetof(PlainHeader, validUntil) == 128 && offsetof(PlainHeader, tickedNs) == 160 && offsetof(PlainHeader, stock) == 168 && offsetof(PlainHeader, writerLock) == 192);
static_assert(offsetof(PlainHeader, highWater) == 224 && offsetof(PlainHeader, controllerTerm) == 280);
static_assert(offsetof(PlainHeader, changes) == 312 && offsetof(PlainHeader, seats) == 400 && offsetof(PlainHeader, members) == 1424 && offsetof(PlainHeader, laneOwners) == 2448);

inline constexpr uint64_t kHeaderBytes = 4096;
static_assert(sizeof(PlainHeader) <= kHeaderBytes);

// Where each array begins. Lanes and leases are arrays of kLanes arrays, a stride apart. From there on pages are
// touched only when used: by the first thread that owns a lane, by targets that are leased, have a limit or are not
// enforced, by threads that wait. Only tables opened by name have a directory.
struct Offsets {
  uint64_t buckets, tallies, completions, lines, lanes, laneStride, leases, leaseStride, limits, uncharged, directory, area, tickets, total;
};

constexpr Offsets offsetsFor(uint64_t capacity, uint64_t areaBytes, uint64_t directoryBytes = 0) noexcept {
  const uint64_t slots = capacity + 1;
  const auto page = [](uint64_t bytes) { return (bytes + 4095) & ~uint64_t{4095}; };
  Offsets o{};
  o.buckets = kHeaderBytes;
  o.tallies = page(o.buckets + slots * sizeof(PlainBucket));
  o.completions = page(o.tallies + slots * sizeof(PlainTally));
  o.lines = page(o.completions + slots * sizeof(PlainCompletion));
  o.lanes = page(o.lines + slots * sizeof(PlainLine));
  o.laneStride = page(slots * sizeof(PlainLane));
  o.leases = o.lanes + kLanes * o.laneStride;
  o.leaseStride = page(slots * sizeof(uint64_t));
  o.limits = o.leases + kLanes * o.leaseStride;
  o.uncharged = page(o.limits + slots * sizeof(PlainBucket));
  o.directory = page(o.uncharged + slots * sizeof(PlainUncharged));
  o.area = page(o.directory + directoryBytes);
  o.tickets = page(o.area + areaBytes);
  o.total = page(o.tickets + kSeats * slots * sizeof(uint64_t));
  return o;
}

}  // namespace foretoken
