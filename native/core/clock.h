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

struct RegionClock {
  const PlainHeader* header;

  uint64_t operator()() const noexcept {
    if (header->clockKind == ClockKind::kVirtual)
      // acquire [time]: what was done before the clock was moved is visible to whoever reads the new time.
      return header->virtualNs.load(std::memory_order_acquire) + 1;
    const uint64_t now = monotonicNs();
    // Another thread's origin can be a read ahead of this one's clock; time before the origin is time 1.
    return now > header->originNs ? now - header->originNs + 1 : 1;
  }
};

}  // namespace foretoken
