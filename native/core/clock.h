// Region time: nanoseconds since the region was made, plus one, so that 0 means "never".
#pragma once

#include <time.h>

#include "layout.h"

namespace foretoken {

inline uint64_t monotonicNs() noexcept {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1000000000ull + static_cast<uint64_t>(t.tv_nsec);
}

// The time stamp counter costs a third of a clock call. Used only where the processor says that it runs at one
// speed on all cores (CPUID 80000007h, EDX bit 8).
bool hasInvariantTsc() noexcept;

// ns per tick as 32.32 fixed point, measured once per process against CLOCK_MONOTONIC. Rounded down by more
// than the measurement can be off, so that region time never runs fast and no rate is exceeded. Less than 1 ns, so that
// the upper half of one product is the time; 0 where the counter is slower than that, or there is none.
uint64_t tscMultiplier() noexcept;

inline uint64_t readTsc() noexcept {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#else
  return 0;
#endif
}

struct RegionClock {
  const PlainHeader* header;

  FORETOKEN_INLINE uint64_t operator()() const noexcept { return at(readTsc()); }

  // The time at a reading of the counter a moment ago; by another clock, the time now.
  FORETOKEN_INLINE uint64_t at(uint64_t ticks) const noexcept {
    if (header->clockKind != ClockKind::kTsc) [[unlikely]] return byAnother();
    if (ticks <= header->tscOrigin) [[unlikely]] return 1;
    return static_cast<uint64_t>((static_cast<unsigned __int128>(ticks - header->tscOrigin) * (header->tscMultiplier << 32)) >> 64) + 1;
  }

 private:
  [[gnu::noinline]] uint64_t byAnother() const noexcept {
    if (header->clockKind == ClockKind::kVirtual)
      // acquire [time]: what was done before the clock was moved is visible to whoever reads the new time.
      return header->virtualNs.load(std::memory_order_acquire) + 1;
    const uint64_t now = monotonicNs();
    // Another thread's origin can be a read ahead of this one's clock; time before the origin is time 1.
    return now > header->originNs ? now - header->originNs + 1 : 1;
  }
};

}  // namespace foretoken
