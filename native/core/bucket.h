// A bucket's arithmetic: pure functions of (level, parameters, now). No atomics, no clock, no Node.
#pragma once

#include <algorithm>
#include <cstdint>

#include "layout.h"

namespace foretoken {

// Levels are kept within 56 signed bits; beyond half of that a bucket is due for a new epoch.
inline constexpr int64_t kLevelLimit = int64_t{1} << 54;

struct Word {
  uint64_t bits;
  constexpr uint8_t epoch() const noexcept { return static_cast<uint8_t>(bits); }
  constexpr int64_t level() const noexcept { return static_cast<int64_t>(bits) >> 8; }
};

constexpr Word pack(int64_t level, uint8_t epoch) noexcept {
  return {(static_cast<uint64_t>(level) << 8) | epoch};
}

// One consistent reading of a bucket's parameters.
struct Reading {
  uint64_t sinceNs;
  uint64_t rate;   // units per second
  uint64_t burst;  // units
  uint64_t deposit;
  uint64_t depositUntilNs;

  constexpr uint64_t capAt(uint64_t nowNs) const noexcept {
    return burst + (nowNs < depositUntilNs ? deposit : 0);
  }
};

// Deposits end at multiples of 2^20 ns, so that a change of parameters, which refers the end to a new time, never moves it.
constexpr uint64_t kExpiryShift = 20;

constexpr Reading read(uint64_t sinceNs, uint64_t rateAndBurst, uint64_t deposit) noexcept {
  return {sinceNs, decode(static_cast<uint32_t>(rateAndBurst)), decode(static_cast<uint32_t>(rateAndBurst >> 32)),
          decode(static_cast<uint32_t>(deposit)), ((sinceNs >> kExpiryShift) + (deposit >> 32)) << kExpiryShift};
}

inline constexpr uint64_t kNsPerSec = 1000000000;

// What a rate below 2^34 yields in less than 2^22 seconds: no product exceeds 64 bits.
inline constexpr uint64_t kLongNs = kNsPerSec << 22;
FORETOKEN_INLINE constexpr int64_t accruedLong(uint64_t rate, uint64_t ns) noexcept {
  return static_cast<int64_t>(ns / kNsPerSec * rate + ns % kNsPerSec * rate / kNsPerSec);
}

// What a rate yields in a time, saturated far above any level. Units per second rather than per some power
// of two of nanoseconds, so that 50/s for one second is 50 tokens and not a hair less.
constexpr int64_t accrued(uint64_t rate, uint64_t ns) noexcept {
  constexpr uint64_t kMost = static_cast<uint64_t>(kLevelLimit) << 2;
  // Scaling at creation sees to it.
  if (rate < (1ull << 34) && ns < kLongNs) [[likely]] return accruedLong(rate, ns);
  const unsigned __int128 tokens = static_cast<unsigned __int128>(rate) * ns / kNsPerSec;
  return static_cast<int64_t>(tokens < kMost ? static_cast<uint64_t>(tokens) : kMost);
}

// The same for the rates and times of nearly all requests, in two multiplications: 10^9 is 2^9 times 5^9, the time times
// the rate's mantissa fits in 64 bits, and dividing by one factor after the other rounds down to the same.
inline constexpr uint32_t kPlainExponent = 8;
inline constexpr uint64_t kPlainNs = uint64_t{1} << (64 - kMantissaBits);
FORETOKEN_INLINE constexpr int64_t accruedPlain(uint32_t rateCode, uint64_t ns) noexcept {
  // 2^84 / 5^9, rounded up: it divides whatever is below 2^63, without the compiler's provision for larger numbers.
  constexpr uint64_t kInverse = 9903520314283042200u;
  const uint64_t dividend = ns * (rateCode & kMantissaMask) >> (9 - (rateCode >> kMantissaBits));
  return static_cast<int64_t>(static_cast<unsigned __int128>(dividend) * kInverse >> 84);
}

// For what is rare, in a function of its own because its registers are missed where it is not called.
[[gnu::noinline]] inline int64_t accruedAny(uint32_t rateCode, uint64_t ns) noexcept { return accrued(decode(rateCode), ns); }

// The level now, and what must be taken off it to refer it back to Reading::sinceNs.
struct Evaluation {
  int64_t level;
  int64_t accrued;
  int64_t overflow;  // what was cut off above the cap, not counting what lapsed at validUntil
  uint64_t cap;
};

// `evaluate` where the promise that covered the version has lapsed.
constexpr Evaluation evaluateLapsed(int64_t stored, const Reading& p, uint64_t now, uint64_t validUntilNs, uint64_t fallback,
                                    int64_t leased) noexcept {
  const int64_t before = accrued(p.rate, validUntilNs - p.sinceNs);
  const int64_t after = accrued(decode(static_cast<uint32_t>(fallback)), now - validUntilNs);
  const int64_t atLapse = std::min(stored + before, static_cast<int64_t>(p.capAt(validUntilNs)) - leased);
  const uint64_t cap = decode(static_cast<uint32_t>(fallback >> 32));
  const int64_t level = atLapse + after;
  const int64_t most = static_cast<int64_t>(cap) - leased;
  return level > most ? Evaluation{most, before + after, level - most, cap} : Evaluation{level, before + after, 0, cap};
}

// Refill is piecewise: the allocated rate up to validUntil, the fallback after it. A version that took
// effect after validUntil already carries what holds without a controller, so it is used as it stands.
//
// Clipping once, with the cap that holds now, is exact although a deposit may have expired in between:
// a level that was above the burst then is at the burst now, one below it was not clipped at all.
//
// What is out on lease counts as if it still lay in the bucket: the level is clipped that much below the cap, into
// a debt if the burst has become smaller than the leases.
constexpr Evaluation evaluate(int64_t stored, const Reading& p, uint64_t nowNs, uint64_t validUntilNs,
                                               uint64_t fallback, int64_t leased = 0) noexcept {
  // A clock read before the version took effect, by a thread that was overtaken: no time has passed.
  const uint64_t now = std::max(nowNs, p.sinceNs);
  if (now <= validUntilNs || p.sinceNs > validUntilNs) [[likely]] {
    const int64_t inflow = accrued(p.rate, now - p.sinceNs);
    const int64_t level = stored + inflow;
    const uint64_t cap = p.capAt(now);
    const int64_t most = static_cast<int64_t>(cap) - leased;
    return level > most ? Evaluation{most, inflow, level - most, cap} : Evaluation{level, inflow, 0, cap};
  }
  return evaluateLapsed(stored, p, now, validUntilNs, fallback, leased);
}

// How long until the level reaches `wanted` if nothing is taken, ns; UINT64_MAX if it never will.
constexpr uint64_t nsUntil(int64_t level, int64_t wanted, uint64_t rate, uint64_t cap) noexcept {
  if (level >= wanted) return 0;
  if (rate == 0 || wanted > static_cast<int64_t>(cap)) return UINT64_MAX;
  const auto missing = static_cast<unsigned __int128>(wanted - level);
  const unsigned __int128 ns = (missing * kNsPerSec + rate - 1) / rate;
  return ns > UINT64_MAX ? UINT64_MAX : static_cast<uint64_t>(ns);
}

}  // namespace foretoken
