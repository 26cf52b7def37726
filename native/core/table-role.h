// Bodies of table.h: the controller role, and what is put right after a writer has died.
#pragma once

#include "table.h"

namespace foretoken {

template <template <class> class Atomic>
template <class Clock>
inline uint64_t Table<Atomic>::takeRole(uint64_t forNs, Clock&& clock) noexcept {
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

template <template <class> class Atomic>
template <class Clock>
inline Status Table<Atomic>::renewRole(uint64_t forNs, Clock&& clock) noexcept {
  if (term_ == 0) return kDeposed;
  return exclusively([&] {
    h_->controllerUntilNs.store(clock() + forNs, std::memory_order_release);
    return kOk;
  });
}

template <template <class> class Atomic>
inline void Table<Atomic>::leaveRole() noexcept {
  if (term_)
    exclusively([&] {
      h_->controllerPid.store(0, std::memory_order_release);
      return kOk;
    });
  term_ = 0;
}

// Puts right what a writer that died may have left half done. Slots on their way in or out are freed; the sums
// and the queue of freed slots are made anew; the reservoir gets what the targets leave. Tokens that were on
// their way are lost. The directory is built anew when it is next asked.
template <template <class> class Atomic>
template <class Clock>
inline void Table<Atomic>::repair(Clock&& clock) noexcept {
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

}  // namespace foretoken
