// Bodies of table.h: what no bucket could hold goes to the reservoir.
#pragma once

#include "table.h"

namespace foretoken {

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
template <template <class> class Atomic>
template <class Clock>
inline TickResult Table<Atomic>::tick(uint32_t otherThreads, Clock&& clock) noexcept {
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

}  // namespace foretoken
