// Bodies of table.h: lanes and leases, what a thread counts and holds for itself.
#pragma once

#include "table.h"

namespace foretoken {

template <template <class> class Atomic>
inline bool Table<Atomic>::claimLane(uint64_t nowNs) noexcept {
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

template <template <class> class Atomic>
inline void Table<Atomic>::reapLanes(uint64_t nowNs) noexcept {
  // All of them: one who died while it claimed its lane may have been the first to.
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    uint64_t seen = h_->laneOwners[lane].load(std::memory_order_acquire);
    if (seen == 0 || !isLaneOrphaned(seen)) continue;
    if (!h_->laneOwners[lane].compare_exchange_strong(seen, seen | kReaping, std::memory_order_acq_rel, std::memory_order_relaxed)) continue;
    endLeases(lane, nowNs);
    h_->laneOwners[lane].store(0, std::memory_order_release);
  }
}

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
template <template <class> class Atomic>
inline int32_t Table<Atomic>::lease(Slot slot, Holding held, uint64_t want, uint64_t least, uint64_t nowNs, Lease& out) noexcept {
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

// All leases of a lane count as spent: clipped under, then forgotten.
template <template <class> class Atomic>
inline void Table<Atomic>::endLeases(uint32_t lane, uint64_t nowNs) noexcept {
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

}  // namespace foretoken
