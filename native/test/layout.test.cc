// The format: what is written down in native/README.md and what other processes will rely on.
#include "layout.h"

#include "harness.h"

using namespace foretoken;

TEST("every field of the header lies where the README says") {
  CHECK_EQ(offsetof(PlainHeader, magic), 0u);
  CHECK_EQ(offsetof(PlainHeader, abi), 8u);
  CHECK_EQ(offsetof(PlainHeader, headerBytes), 12u);
  CHECK_EQ(offsetof(PlainHeader, capacity), 16u);
  CHECK_EQ(offsetof(PlainHeader, clockKind), 20u);
  CHECK_EQ(offsetof(PlainHeader, tokenShift), 24u);
  CHECK_EQ(offsetof(PlainHeader, bucketBytes), 28u);
  CHECK_EQ(offsetof(PlainHeader, regionBytes), 32u);
  CHECK_EQ(offsetof(PlainHeader, areaOffset), 40u);
  CHECK_EQ(offsetof(PlainHeader, areaBytes), 48u);
  CHECK_EQ(offsetof(PlainHeader, originNs), 56u);
  CHECK_EQ(offsetof(PlainHeader, tscOrigin), 64u);
  CHECK_EQ(offsetof(PlainHeader, tscMultiplier), 72u);
  CHECK_EQ(offsetof(PlainHeader, ready), 80u);
  CHECK_EQ(offsetof(PlainHeader, validUntil), 128u);
  CHECK_EQ(offsetof(PlainHeader, largestCost), 136u);
  CHECK_EQ(offsetof(PlainHeader, virtualNs), 144u);
  CHECK_EQ(offsetof(PlainHeader, latestNs), 152u);
  CHECK_EQ(offsetof(PlainHeader, tickedNs), 160u);
  CHECK_EQ(offsetof(PlainHeader, stock), 168u);
  CHECK_EQ(offsetof(PlainHeader, writerLock), 192u);
  CHECK_EQ(offsetof(PlainHeader, resourceRate), 200u);
  CHECK_EQ(offsetof(PlainHeader, resourceBurst), 208u);
  CHECK_EQ(offsetof(PlainHeader, refundsDropped), 216u);
  CHECK_EQ(offsetof(PlainHeader, highWater), 224u);
  CHECK_EQ(offsetof(PlainHeader, freeHead), 228u);
  CHECK_EQ(offsetof(PlainHeader, freeTail), 232u);
  CHECK_EQ(offsetof(PlainHeader, liveTargets), 236u);
  CHECK_EQ(offsetof(PlainHeader, tickNs), 240u);
  CHECK_EQ(offsetof(PlainHeader, tickHeld), 248u);
  CHECK_EQ(offsetof(PlainHeader, tickAdmitted), 256u);
  CHECK_EQ(offsetof(PlainHeader, controllerPid), 264u);
  CHECK_EQ(offsetof(PlainHeader, controllerUntilNs), 272u);
  CHECK_EQ(offsetof(PlainHeader, controllerTerm), 280u);
  CHECK_EQ(offsetof(PlainHeader, firstRate), 352u);
  CHECK_EQ(offsetof(PlainHeader, firstBurst), 360u);
}

TEST("what a decision reads lies on one cache line, what it writes on the next, completions elsewhere") {
  CHECK_EQ(sizeof(PlainBucket), 64u);
  CHECK_EQ(alignof(PlainBucket), 64u);
  CHECK_EQ(offsetof(PlainBucket, word), 0u);
  CHECK_EQ(offsetof(PlainBucket, params), 8u);
  CHECK_EQ(sizeof(Params<std::atomic>), 24u);
  CHECK_EQ(offsetof(PlainBucket, meta), 56u);
  CHECK_EQ(sizeof(PlainTally), 64u);
  CHECK_EQ(alignof(PlainTally), 64u);
  CHECK_EQ(offsetof(PlainTally, admitted), 0u);
  CHECK_EQ(offsetof(PlainTally, admittedTokens), 8u);
  CHECK_EQ(offsetof(PlainTally, denied), 16u);
  CHECK_EQ(offsetof(PlainTally, deniedTokens), 24u);
  CHECK_EQ(offsetof(PlainTally, borrowedTokens), 32u);
  CHECK_EQ(offsetof(PlainTally, borrowShare), 40u);
  CHECK_EQ(offsetof(PlainTally, fallback), 48u);
  CHECK_EQ(offsetof(PlainTally, waitUntilNs), 56u);
  CHECK_EQ(sizeof(PlainCompletion), 32u);
  CHECK_EQ(sizeof(PlainLane), 16u);
}

TEST("the arrays of every capacity are page-aligned, do not overlap and end within the region") {
  for (const uint64_t capacity : {1ull, 2ull, 63ull, 64ull, 1000ull, 100000ull, static_cast<unsigned long long>(kMaxCapacity)}) {
    for (const uint64_t area : {0ull, 1ull, 4096ull, 123456789ull}) {
      const Offsets o = offsetsFor(capacity, area);
      const uint64_t slots = capacity + 1;
      CHECK_EQ(o.buckets, kHeaderBytes);
      CHECK_GE(o.tallies, o.buckets + slots * sizeof(PlainBucket));
      CHECK_GE(o.completions, o.tallies + slots * sizeof(PlainTally));
      CHECK_GE(o.lines, o.completions + slots * sizeof(PlainCompletion));
      CHECK_GE(o.lanes, o.lines + slots * sizeof(PlainLine));
      CHECK_GE(o.laneStride, slots * sizeof(PlainLane));
      CHECK_GE(o.leases, o.lanes + kLanes * o.laneStride);
      CHECK_GE(o.leaseStride, slots * sizeof(uint64_t));
      CHECK_GE(o.limits, o.leases + kLanes * o.leaseStride);
      CHECK_GE(o.uncharged, o.limits + slots * sizeof(PlainBucket));
      CHECK_GE(o.area, o.uncharged + slots * sizeof(PlainUncharged));
      CHECK_GE(o.total, o.area + area);
      for (const uint64_t at : {o.buckets, o.tallies, o.completions, o.lines, o.lanes, o.laneStride, o.leases, o.leaseStride, o.limits, o.uncharged, o.area, o.total}) CHECK_EQ(at % 4096, 0u);
    }
  }
}

TEST("a code is never more than its value and short of it by at most 2^-25") {
  harness::Random random(1);
  for (uint64_t i = 0; i < harness::runs(200000); ++i) {
    const uint64_t value = random.magnitude(63);
    const uint64_t decoded = decode(encode(value));
    CHECK_LE(decoded, value);
    CHECK_LE(value - decoded, value >> 25);
  }
}

TEST("a decoded value is encoded to itself again, so that carrying parameters over loses nothing") {
  harness::Random random(2);
  for (uint64_t i = 0; i < harness::runs(200000); ++i) {
    const uint64_t once = decode(encode(random.magnitude(63)));
    CHECK_EQ(decode(encode(once)), once);
  }
}

TEST("whole values below 2^26 are exact, and codes keep their order") {
  harness::Random random(3);
  for (uint64_t i = 0; i < harness::runs(200000); ++i) {
    const uint64_t small = random.below(1ull << 26);
    CHECK_EQ(decode(encode(small)), small);
    const uint64_t a = random.magnitude(63), b = random.magnitude(63);
    CHECK_LE(decode(encode(std::min(a, b))), decode(encode(std::max(a, b))));
  }
}

TEST("the largest values saturate below 2^63 instead of wrapping") {
  for (const uint64_t value : {1ull << 62, 1ull << 63, ~0ull, ~0ull - 1}) CHECK_LE(decode(encode(value)), (1ull << 63) - 1);
  CHECK_EQ(decode(encode(~0ull)), ((1ull << 26) - 1) << 37);
  CHECK_EQ(decode(encode(0)), 0u);
}

TEST("a whole divided among many codes never adds up to more than the whole") {
  harness::Random random(4);
  for (uint64_t run = 0; run < harness::runs(2000); ++run) {
    const uint64_t whole = random.magnitude(54);
    uint64_t left = whole, sum = 0;
    for (int i = 0; i < 50; ++i) {
      const uint64_t part = random.below(left + 1);
      sum += decode(encode(part));
      left -= part;
    }
    sum += decode(encode(left));
    CHECK_LE(sum, whole);
  }
}

HARNESS_MAIN
