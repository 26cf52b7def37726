// The arithmetic of one bucket against an exact one: whole numbers of 10^-9 units in 128 bits, walked from
// breakpoint to breakpoint instead of clipped once.
#include "bucket.h"

#include "harness.h"

using namespace foretoken;
using harness::Random;
using Wide = __int128;

namespace {

constexpr uint64_t kHour = 3600 * kNsPerSec, kYear = 365 * 24 * kHour;
constexpr Wide kNano = 1000000000;

// Level in 10^-9 units at `now`, by walking every moment at which rate or cap change.
Wide exactLevel(int64_t stored, const Reading& p, uint64_t now, uint64_t validUntil, uint64_t fallback) {
  Wide level = static_cast<Wide>(stored) * kNano;
  const uint64_t fallbackRate = decode(static_cast<uint32_t>(fallback)), fallbackBurst = decode(static_cast<uint32_t>(fallback >> 32));
  if (now < p.sinceNs) now = p.sinceNs;
  const bool promised = p.sinceNs <= validUntil;
  std::vector<uint64_t> moments{p.depositUntilNs, validUntil, now};
  std::sort(moments.begin(), moments.end());
  uint64_t at = p.sinceNs;
  const auto lapsedAt = [&](uint64_t t) { return promised && t > validUntil; };
  const auto capAt = [&](uint64_t t) { return static_cast<Wide>(lapsedAt(t) ? fallbackBurst : p.burst + (t < p.depositUntilNs ? p.deposit : 0)) * kNano; };
  level = std::min(level, capAt(at));
  for (const uint64_t moment : moments) {
    if (moment <= at || moment > now) continue;
    const uint64_t rate = lapsedAt(at + 1) ? fallbackRate : p.rate;
    level += static_cast<Wide>(rate) * (moment - at);
    at = moment;
    level = std::min(level, capAt(at));
    if (promised && at == validUntil && at < now) level = std::min(level, static_cast<Wide>(fallbackBurst) * kNano);
  }
  return level;
}

uint64_t pairOf(uint64_t rate, uint64_t burst) { return (static_cast<uint64_t>(encode(burst)) << 32) | encode(rate); }

Reading someReading(Random& r, unsigned bits) {
  Reading p = read(r.magnitude(50), pairOf(r.magnitude(bits), r.magnitude(bits)),
                   (r.oneIn(2) ? r.magnitude(32) << 32 : 0) | (r.oneIn(2) ? encode(r.magnitude(bits)) : 0));
  return p;
}

}  // namespace

TEST("a word keeps epoch and level apart over the whole range of levels") {
  Random r(1);
  for (uint64_t i = 0; i < harness::runs(100000); ++i) {
    const int64_t level = static_cast<int64_t>(r.magnitude(55)) * (r.oneIn(2) ? -1 : 1);
    const auto epoch = static_cast<uint8_t>(r.next());
    const Word w = pack(level, epoch);
    CHECK_EQ(w.level(), level);
    CHECK_EQ(+w.epoch(), +epoch);
  }
  CHECK_EQ(pack(-(int64_t{1} << 55), 255).level(), -(int64_t{1} << 55));
  CHECK_EQ(pack((int64_t{1} << 55) - 1, 255).level(), (int64_t{1} << 55) - 1);
}

TEST("what a rate yields is the exact product rounded down, on both sides of every shortcut") {
  Random r(2);
  const auto check = [](uint64_t rate, uint64_t ns) {
    const auto exact = static_cast<unsigned __int128>(rate) * ns / kNsPerSec;
    const auto most = static_cast<unsigned __int128>(kLevelLimit) << 2;
    CHECK_EQ(static_cast<unsigned __int128>(accrued(rate, ns)), exact < most ? exact : most);
  };
  for (uint64_t i = 0; i < harness::runs(300000); ++i) check(r.magnitude(54), r.magnitude(63));
  for (const uint64_t rate : {0ull, 1ull, (1ull << 34) - 1, 1ull << 34, 1ull << 54, ~0ull})
    for (const uint64_t ns : {uint64_t{0}, uint64_t{1}, kNsPerSec - 1, kNsPerSec, (uint64_t{1} << 22) * kNsPerSec - 1, (uint64_t{1} << 22) * kNsPerSec, kYear, 100 * kYear, ~uint64_t{0}})
      check(rate, ns);
}

TEST("the short way to what a rate yields gives what the long one does, up to its last rate and time") {
  Random r(3);
  const auto check = [](uint32_t mantissa, uint32_t exponent, uint64_t ns) {
    const uint32_t code = exponent << kMantissaBits | mantissa;
    CHECK_EQ(accruedPlain(code, ns), accrued(decode(code), ns));
    CHECK_EQ(accruedLong(decode(code), ns), accrued(decode(code), ns));
  };
  const auto most = static_cast<uint32_t>(kMantissaMask);
  for (uint64_t i = 0; i < harness::runs(300000); ++i)
    check(static_cast<uint32_t>(r.below(uint64_t{most} + 1)), static_cast<uint32_t>(r.below(kPlainExponent + 1)), r.magnitude(38));
  for (uint32_t exponent = 0; exponent <= kPlainExponent; ++exponent)
    for (const uint32_t mantissa : {0u, 1u, 1953125u, most - 1, most})
      for (const uint64_t ns : {uint64_t{0}, uint64_t{1}, kNsPerSec - 1, kNsPerSec, kPlainNs - kNsPerSec, kPlainNs - 1}) check(mantissa, exponent, ns);
}

TEST("a level is never above the exact one, and short of it by less than two units") {
  Random r(3);
  for (uint64_t i = 0; i < harness::runs(300000); ++i) {
    const unsigned bits = i % 2 ? 34 : 40;
    const Reading p = someReading(r, bits);
    const int64_t stored = static_cast<int64_t>(r.magnitude(bits)) * (r.oneIn(3) ? -1 : 1);
    const uint64_t now = p.sinceNs + r.magnitude(50), validUntil = r.oneIn(2) ? now + r.magnitude(40) : r.below(now + 1);
    const uint64_t fallback = pairOf(r.magnitude(bits), r.magnitude(bits));
    const Evaluation e = evaluate(std::min<int64_t>(stored, static_cast<int64_t>(p.capAt(p.sinceNs))), p, now, validUntil, fallback);
    const Wide exact = exactLevel(stored, p, now, validUntil, fallback);
    harness::context() = "case " + std::to_string(i);
    CHECK_LE(static_cast<Wide>(e.level) * kNano, exact);
    // Far beyond any level the product saturates; there the exact level has long been cut to the cap.
    CHECK_OP(exact - static_cast<Wide>(e.level) * kNano, <, 2 * kNano);
    CHECK_LE(e.level, static_cast<int64_t>(e.cap));
    CHECK_GE(e.overflow, 0);
  }
}

TEST("a level written back and read at the same moment is the same level") {
  Random r(4);
  for (uint64_t i = 0; i < harness::runs(100000); ++i) {
    const Reading p = someReading(r, 34);
    const uint64_t now = p.sinceNs + r.magnitude(45), validUntil = r.oneIn(2) ? now + 5 : p.sinceNs + r.magnitude(40);
    const uint64_t fallback = pairOf(r.magnitude(34), r.magnitude(34));
    const Evaluation e = evaluate(static_cast<int64_t>(r.magnitude(34)), p, now, validUntil, fallback);
    const Evaluation again = evaluate(e.level - e.accrued, p, now, validUntil, fallback);
    CHECK_EQ(again.level, e.level);
    CHECK_EQ(again.overflow, 0);
  }
}

TEST("time that stands still or goes back never raises a level") {
  Random r(5);
  for (uint64_t i = 0; i < harness::runs(100000); ++i) {
    Reading p = someReading(r, 34);
    p.deposit = 0;
    const uint64_t now = p.sinceNs + r.magnitude(45), earlier = now - r.below(now + 1);
    const uint64_t validUntil = r.oneIn(2) ? ~uint64_t{0} >> 1 : p.sinceNs + r.magnitude(44);
    const uint64_t fallback = pairOf(r.magnitude(34), r.magnitude(34));
    const Evaluation e = evaluate(static_cast<int64_t>(r.magnitude(34)), p, now, validUntil, fallback);
    // What a request at `now` wrote back, as a thread with an older reading of the clock sees it.
    CHECK_LE(evaluate(e.level - e.accrued, p, earlier, validUntil, fallback).level, e.level);
  }
}

TEST("extremes of rate, burst, debt and time stay within the cap and within 64 bits") {
  // The sanitized build makes this a test of undefined behaviour.
  for (const uint64_t rate : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 34, uint64_t{1} << 54, uint64_t{1} << 63})
    for (const uint64_t burst : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 54})
      for (const int64_t stored : {int64_t{0}, int64_t{1} << 54, -(int64_t{1} << 54), -(int64_t{1} << 55)})
        for (const uint64_t elapsed : {uint64_t{0}, uint64_t{1}, kYear, 290 * kYear, ~uint64_t{0} - 10})
          for (const uint64_t validUntil : {uint64_t{0}, uint64_t{9}, kYear, ~uint64_t{0} >> 1}) {
            const Reading p = read(10, pairOf(rate, burst), (uint64_t{0xffffffff} << 32) | encode(burst));
            const Evaluation e = evaluate(stored, p, 10 + elapsed, validUntil, pairOf(rate, burst));
            CHECK_LE(e.level, static_cast<int64_t>(e.cap));
            CHECK_GE(e.accrued, 0);
            CHECK_GE(e.overflow, 0);
          }
}

TEST("a deposit counts until it expires and not from then on") {
  const Reading p = read(1000, pairOf(0, 100), (uint64_t{3} << 32) | encode(50));
  CHECK_EQ(p.depositUntilNs, uint64_t{3} << 20);
  CHECK_EQ(p.capAt(p.depositUntilNs - 1), 150u);
  CHECK_EQ(p.capAt(p.depositUntilNs), 100u);
  CHECK_EQ(evaluate(140, p, p.depositUntilNs - 1, ~uint64_t{0}, 0).level, 140);
  CHECK_EQ(evaluate(140, p, p.depositUntilNs, ~uint64_t{0}, 0).level, 100);
  CHECK_EQ(evaluate(140, p, p.depositUntilNs, ~uint64_t{0}, 0).overflow, 40);
}

TEST("fifty a second for one second is fifty, not a hair less") {
  for (uint64_t rate = 1; rate < 5000; ++rate) CHECK_EQ(accrued(rate, kNsPerSec), static_cast<int64_t>(rate));
}

TEST("the wait for a level is the shortest after which it is there") {
  Random r(6);
  for (uint64_t i = 0; i < harness::runs(100000); ++i) {
    const uint64_t rate = r.magnitude(40), cap = r.magnitude(40);
    const int64_t level = static_cast<int64_t>(r.below(cap + 1)) - static_cast<int64_t>(r.oneIn(3) ? r.magnitude(40) : 0);
    const auto wanted = static_cast<int64_t>(r.below(cap + 1));
    const uint64_t ns = nsUntil(level, wanted, rate, cap);
    if (level >= wanted) CHECK_EQ(ns, 0u);
    else if (ns != UINT64_MAX) {
      CHECK_GE(level + accrued(rate, ns), wanted);
      CHECK_OP(level + accrued(rate, ns - 1), <, wanted);
    }
  }
  CHECK_EQ(nsUntil(0, 1, 0, 10), UINT64_MAX);
  CHECK_EQ(nsUntil(0, 11, 5, 10), UINT64_MAX);
  CHECK_EQ(nsUntil(-(int64_t{1} << 55), int64_t{1} << 54, 1, uint64_t{1} << 62), UINT64_MAX);
}

HARNESS_MAIN
