// Bodies of table.h: what admits, denies, charges and gives back.
#pragma once

#include "table.h"

namespace foretoken {

template <template <class> class Atomic>
template <class Time>
FORETOKEN_INLINE bool Table<Atomic>::acquirePlain(const Time& time, uint64_t handle, uint64_t cost) noexcept {
  H& header = *h_;
  const uint64_t index = handle & kIndexMask;
  if (index - 1 >= header.capacity) return false;  // the reservoir too
  B& bucket = buckets_[index];
  Word word{bucket.word.load(std::memory_order_acquire)};
  // acquire [slot], [lease]: after the word.
  const uint64_t meta = bucket.meta.load(std::memory_order_acquire);
  if (meta >> 32 != handle >> kIndexBits || (meta & (kLive | kHasLimit | kHasLine | kOff)) != kLive) return false;
  const Params<Atomic>& p = copyOf(bucket, word.epoch());
  // acquire [epoch]
  const uint64_t since = p.sinceNs.load(std::memory_order_acquire);
  const uint64_t rateAndBurst = p.rateAndBurst.load(std::memory_order_acquire);
  // acquire [validity]
  const Promise promise{header.validUntil.load(std::memory_order_acquire)};
  if (p.deposit.load(std::memory_order_acquire) != 0) [[unlikely]] return false;
  // seq_cst [tick]: see asOf.
  if (time.nowNs < header.tickedNs.load(std::memory_order_seq_cst)) return false;
  const uint64_t elapsed = time.nowNs - since;
  if (!time.covers(header, promise, elapsed)) [[unlikely]] return false;
  const auto rateCode = static_cast<uint32_t>(rateAndBurst), burstCode = static_cast<uint32_t>(rateAndBurst >> 32);
  int64_t inflow = 0;
  if (elapsed < kPlainNs && (rateCode >> kMantissaBits) <= kPlainExponent) [[likely]] inflow = accruedPlain(rateCode, elapsed);
  else if ((inflow = accruedAny(rateCode, elapsed)) > kLevelLimit) return false;
  auto most = static_cast<int64_t>(decode(burstCode));
  if (meta & kLeased) [[unlikely]] most -= leasesOf(static_cast<uint32_t>(index));
  // relaxed [tick]: what is larger than any before must be known before it is taken. No cost at all counts as the largest.
  if (header.largestCost.load(std::memory_order_relaxed) <= cost - 1) return false;
  // Taken from the level as it is referred to `since`, or from the cap as of now, whichever is less.
  const int64_t stored = std::min(word.level(), most - inflow) - static_cast<int64_t>(cost);
  if (stored + inflow < 0 || !swapLevel(bucket, word, stored)) return false;
  count(static_cast<uint32_t>(index), 1, cost);
  return true;
}

template <template <class> class Atomic>
[[gnu::noinline]] int32_t Table<Atomic>::acquireAny(Slot slot, uint64_t cost, uint64_t nowNs, bool inLine, uint64_t ahead) noexcept {
  if (slot.index == kReservoir || slot.index >= slots()) return kBadHandle;
  B& bucket = buckets_[slot.index];
  // acquire [slot]: pairs with the release in addTarget, so a live generation shows the slot's tallies.
  const uint64_t meta = bucket.meta.load(std::memory_order_acquire);
  if ((meta >> 32) != slot.generation || !(meta & kLive)) return kBadHandle;
  if (meta & kOff) [[unlikely]] return admitUncharged(slot.index, meta, cost);
  const int32_t decision = judge(slot, meta, cost, nowNs, inLine, ahead);
  if (decision > 0 || decision == kBadHandle || !(meta & kShadow)) return decision;
  // Who waits counts as denied from when it draws a ticket; this one never will, or has it taken back.
  if (inLine) deny(tallies_[slot.index], cost);
  return admitUncharged(slot.index, meta, cost);
}

template <template <class> class Atomic>
inline int32_t Table<Atomic>::judge(Slot slot, uint64_t meta, uint64_t cost, uint64_t nowNs, bool inLine, uint64_t ahead) noexcept {
  B& bucket = buckets_[slot.index];
  nowNs = asOf(nowNs);
  const uint64_t validUntil = validUntilAt(nowNs);
  // relaxed: a line that formed a moment ago may be missed by a moment; it is order, not safety.
  if ((meta & kHasLine) && !inLine && tallies_[slot.index].waitUntilNs.load(std::memory_order_relaxed) > nowNs) [[unlikely]]
    return deny(tallies_[slot.index], cost);
  if (meta & kHasLimit) [[unlikely]] {
    const int32_t within = take(limits_[slot.index], nullptr, kReservoir, 0, cost, nowNs, 0, ahead);
    if (within != kOwn) {
      if (!inLine) deny(tallies_[slot.index], cost);
      return within;
    }
  }

  int32_t decision = take(bucket, &tallies_[slot.index], slot.index, slot.generation, cost, nowNs, validUntil, ahead);
  if (decision == kDenied || decision == kTooLarge) {
    if (meta & kMayBorrow) {
      const int32_t own = decision;
      // The bucket of a slot that was freed a moment ago is empty too; its handle may not borrow.
      if ((bucket.meta.load(std::memory_order_acquire) >> 32) != slot.generation) [[unlikely]] return kBadHandle;
      decision = borrow(tallies_[slot.index], cost, nowNs, validUntil, ahead);
      if (decision == kTooLarge && own == kDenied) decision = kDenied;
    }
    // What has been given nothing yet says nothing about what it may come to have.
    if (decision == kTooLarge && cost <= largestAdmissible(slot, nowNs)) decision = kDenied;
  }
  if (decision > 0) {
    count(slot.index, 1, cost);
    return decision;
  }
  // The slot's next owner has a limit of its own, from which nothing was taken.
  if (decision == kBadHandle) return decision;
  if (meta & kHasLimit) giveBack(limits_[slot.index], nullptr, cost, nowNs, 0);
  if (!inLine) deny(tallies_[slot.index], cost);
  return decision;
}

template <template <class> class Atomic>
inline int32_t Table<Atomic>::refund(Slot slot, uint64_t units, uint64_t nowNs) noexcept {
  if (!isLive(slot)) return kBadHandle;
  nowNs = asOf(nowNs);
  T& tally = tallies_[slot.index];
  // relaxed: see count. What is in lanes only grows.
  uint64_t charged = tally.admittedTokens.load(std::memory_order_relaxed);
  const uint64_t inLanes = inLanesOf(slot.index).admittedTokens;
  const uint64_t meta = buckets_[slot.index].meta.load(std::memory_order_acquire);
  if (meta & (kShadow | kOff)) {
    Atomic<uint64_t>& tokens = meta & kOff ? parts_.uncharged[slot.index].unmeteredTokens : parts_.uncharged[slot.index].passedTokens;
    uint64_t seen = tokens.load(std::memory_order_relaxed);
    if (charged + inLanes + seen < units) return kBadCost;
    while (seen && !tokens.compare_exchange_weak(seen, seen - std::min(seen, units), std::memory_order_relaxed, std::memory_order_relaxed)) {
    }
    units -= std::min(seen, units);
    if (units == 0) return kOwn;
  }
  for (int tries = 0; tries < kAcquireTries; ++tries) {
    if (charged + inLanes < units) return kBadCost;
    raiseLargestCost(units);
    if (tally.admittedTokens.compare_exchange_weak(charged, charged - units, std::memory_order_release,
                                                   std::memory_order_relaxed)) {
      // release [tick]: who sees the refund counted sees it taken off.
      h_->refunded.fetch_add(units, std::memory_order_release);
      const uint64_t dropped = giveBack(buckets_[slot.index], &tally, units, nowNs, validUntilAt(nowNs));
      if (buckets_[slot.index].meta.load(std::memory_order_acquire) & kHasLimit)
        giveBack(limits_[slot.index], nullptr, units, nowNs, 0);
      if (dropped) h_->refundsDropped.fetch_add(dropped, std::memory_order_relaxed);
      return kOwn;
    }
  }
  return kContended;
}

template <template <class> class Atomic>
inline uint64_t Table<Atomic>::charge(Slot slot, uint64_t units, uint64_t nowNs) noexcept {
  if (!isLive(slot)) return 0;
  nowNs = asOf(nowNs);
  T& tally = tallies_[slot.index];
  const uint64_t meta = buckets_[slot.index].meta.load(std::memory_order_acquire);
  if (meta & kOff) {
    parts_.uncharged[slot.index].unmeteredTokens.fetch_add(units, std::memory_order_relaxed);
    return units;
  }
  const bool limited = meta & kHasLimit;
  if (limited) units = indebt(limits_[slot.index], nullptr, units, nowNs, 0);
  const uint64_t taken = indebt(buckets_[slot.index], &tally, units, nowNs, validUntilAt(nowNs));
  if (limited && taken < units) giveBack(limits_[slot.index], nullptr, units - taken, nowNs, 0);
  count(slot.index, 0, taken);
  return taken;
}

template <template <class> class Atomic>
inline int32_t Table<Atomic>::complete(Slot slot, uint64_t readBytes, uint64_t writeBytes, uint64_t durationNs) noexcept {
  if (!isLive(slot)) return kBadHandle;
  C& c = completions_[slot.index];
  // relaxed: totals, as in acquire.
  c.count.fetch_add(1, std::memory_order_relaxed);
  if (readBytes) c.readBytes.fetch_add(readBytes, std::memory_order_relaxed);
  if (writeBytes) c.writeBytes.fetch_add(writeBytes, std::memory_order_relaxed);
  c.durationNs.fetch_add(durationNs, std::memory_order_relaxed);
  return kOwn;
}

template <template <class> class Atomic>
inline int32_t Table<Atomic>::peek(Slot slot, uint64_t cost, uint64_t nowNs, Peek& out) const noexcept {
  if (slot.index != kReservoir && !isLive(slot)) return kBadHandle;
  const LevelReading own = levelOf(slot.index, nowNs);
  out = {own.level, own.rate, own.burst, own.deposit, nsUntil(own.level, static_cast<int64_t>(cost), own.rate, own.burst + own.deposit)};
  const B& bucket = buckets_[slot.index];
  const uint64_t meta = bucket.meta.load(std::memory_order_acquire);
  if (slot.index != kReservoir && (meta & kMayBorrow) && out.waitNs > 0) {
    // Whoever may borrow can also be served by the reservoir; its share is set anew every tick.
    const bool leavesStock = nowNs <= peekValidUntil() && !(tallies_[slot.index].borrowShare.load(std::memory_order_relaxed) & kMayTakeStock);
    Peek reservoir{};
    peek({kReservoir, 0}, cost + (leavesStock ? stockFor(cost, nowNs) : 0), nowNs, reservoir);
    out.waitNs = std::min(out.waitNs, reservoir.waitNs);
  }
  if (meta & kHasLimit) {
    const B& limit = limits_[slot.index];
    const Word lw{limit.word.load(std::memory_order_acquire)};
    const Reading lp = readParams(limit, lw.epoch());
    const Evaluation le = evaluate(lw.level(), lp, nowNs, 0, 0);
    out.level = std::min(out.level, le.level);
    out.waitNs = std::max(out.waitNs, nsUntil(le.level, static_cast<int64_t>(cost), lp.rate, le.cap));
  }
  return kOwn;
}

template <template <class> class Atomic>
inline uint64_t Table<Atomic>::largestAdmissible(Slot slot, uint64_t nowNs) const noexcept {
  uint64_t most = capOf(slot.index, nowNs);
  const uint64_t meta = buckets_[slot.index].meta.load(std::memory_order_acquire);
  if (meta & kMayBorrow) most = std::max(most, capOf(kReservoir, nowNs));
  if (most == 0) most = h_->resourceBurst.load(std::memory_order_relaxed);
  if (meta & kHasLimit) {
    const B& limit = limits_[slot.index];
    most = std::min(most, readParams(limit, Word{limit.word.load(std::memory_order_acquire)}.epoch()).burst);
  }
  return most;
}

template <template <class> class Atomic>
inline Counters Table<Atomic>::counters(uint32_t index) const noexcept {
  const T& t = tallies_[index];
  const C& c = completions_[index];
  constexpr auto relaxed = std::memory_order_relaxed;  // totals, as in acquire
  const Counted lanes = inLanesOf(index);
  static const Uncharged<Atomic> none{};
  const Uncharged<Atomic>& u = metaOf(index) & kHasUncharged ? parts_.uncharged[index] : none;
  return {t.admitted.load(relaxed) + lanes.admitted, t.admittedTokens.load(relaxed) + lanes.admittedTokens, t.denied.load(relaxed), t.deniedTokens.load(relaxed),
          t.borrowedTokens.load(relaxed), c.count.load(relaxed), c.readBytes.load(relaxed), c.writeBytes.load(relaxed),
          c.durationNs.load(relaxed), u.passed.load(relaxed), u.passedTokens.load(relaxed), u.unmetered.load(relaxed), u.unmeteredTokens.load(relaxed)};
}

template <template <class> class Atomic>
inline LevelReading Table<Atomic>::levelOf(uint32_t index, uint64_t nowNs) const noexcept {
  const Word word{buckets_[index].word.load(std::memory_order_acquire)};
  const Reading p = readParams(buckets_[index], word.epoch());
  const uint64_t fallback = tallies_[index].fallback.load(std::memory_order_relaxed);
  const uint64_t validUntil = endSeenAt(nowNs);
  const Evaluation e = evaluate(word.level(), p, nowNs, validUntil, fallback, leasedOf(index));
  const bool lapsed = nowNs > validUntil && p.sinceNs <= validUntil;
  if (lapsed) return {e.level, rateOf(fallback), e.cap, 0};
  return {e.level, p.rate, p.burst, nowNs < p.depositUntilNs ? p.deposit : 0};
}

template <template <class> class Atomic>
inline int32_t Table<Atomic>::take(B& bucket, T* tally, uint32_t index, uint32_t generation, uint64_t cost, uint64_t nowNs, uint64_t validUntil,
    uint64_t ahead) noexcept {
  Word word{bucket.word.load(std::memory_order_acquire)};
  for (int tries = 0; tries < kAcquireTries; ++tries) {
    // [slot] The slot may have been freed since, and its level is what the next owner must not lose. [lease]
    // What is out on lease is read after the word. Both lie in a word that was read after it.
    const uint64_t meta = buckets_[index].meta.load(std::memory_order_acquire);
    if (tally && (meta >> 32) != generation) [[unlikely]] return kBadHandle;
    const Reading p = readParams(bucket, word.epoch());
    const Evaluation e = evaluate(word.level(), p, nowNs, validUntil, fallbackFor(tally, p, nowNs, validUntil), meta & kLeased ? leasesOf(index) : 0);
    if (e.level < static_cast<int64_t>(cost + ahead)) {
      // A reading that was overtaken says nothing: only a denial under the present version counts.
      const Word again{bucket.word.load(std::memory_order_acquire)};
      if (again.epoch() == word.epoch()) return cost > e.cap ? kTooLarge : kDenied;
      word = again;
      continue;
    }
    const int64_t stored = e.level - static_cast<int64_t>(cost) - e.accrued;
    if (stored < -2 * kLevelLimit) [[unlikely]] {
      reanchor(bucket, tally, nowNs);
      word = Word{bucket.word.load(std::memory_order_acquire)};
      continue;
    }
    // [tick]: before the tokens are taken, so that whoever misses them knows how many they may be.
    if (tally) raiseLargestCost(cost);
    if (tally) raiseLatest(std::max(nowNs, p.sinceNs));
    if (swapLevel(bucket, word, stored)) {
      if (stored < -kLevelLimit) [[unlikely]] reanchor(bucket, tally, nowNs);
      return kOwn;
    }
  }
  return kContended;
}

// Takes up to `units`, down to a debt of one burst. Returns what was taken.
template <template <class> class Atomic>
inline uint64_t Table<Atomic>::indebt(B& bucket, T* tally, uint64_t units, uint64_t nowNs, uint64_t validUntil) noexcept {
  for (int tries = 0; tries < kAcquireTries; ++tries) {
    Word word{bucket.word.load(std::memory_order_acquire)};
    const int64_t leased = tally ? leasedOf(static_cast<uint32_t>(&bucket - buckets_)) : 0;
    const Reading p = readParams(bucket, word.epoch());
    const Evaluation e = evaluate(word.level(), p, nowNs, validUntil, tally ? tally->fallback.load(std::memory_order_relaxed) : 0, leased);
    const int64_t floor = -static_cast<int64_t>(e.cap);
    const auto taken = std::min(static_cast<int64_t>(std::min<uint64_t>(units, kLevelLimit)), std::max<int64_t>(0, e.level - floor));
    // [tick]: as in take.
    if (tally) raiseLargestCost(static_cast<uint64_t>(taken));
    if (tally) raiseLatest(std::max(nowNs, p.sinceNs));
    const int64_t stored = e.level - taken - e.accrued;
    if (stored < -2 * kLevelLimit) [[unlikely]] reanchor(bucket, tally, nowNs);
    else if (swapLevel(bucket, word, stored)) return static_cast<uint64_t>(taken);
  }
  return 0;
}

template <template <class> class Atomic>
inline int32_t Table<Atomic>::borrow(T& tally, uint64_t cost, uint64_t nowNs, uint64_t validUntil, uint64_t ahead) noexcept {
  const auto wanted = static_cast<int64_t>(cost);
  // Without a controller nobody divides the reservoir: it is first come, within the resource's limit.
  const bool shared = nowNs <= validUntil;
  if (shared) {
    // relaxed: the share is a budget of its own; the reservoir's word decides.
    int64_t share = tally.borrowShare.load(std::memory_order_relaxed);
    for (int tries = 0;; ++tries) {
      if ((share & ~kMayTakeStock) < wanted + static_cast<int64_t>(ahead) || tries == kAcquireTries) return cost > capOf(kReservoir, nowNs) ? kTooLarge : kDenied;
      if (tally.borrowShare.compare_exchange_weak(share, share - wanted, std::memory_order_relaxed, std::memory_order_relaxed)) break;
    }
    if (!(share & kMayTakeStock)) ahead += stockFor(cost, nowNs);
  }
  const int32_t decision = take(buckets_[kReservoir], &tallies_[kReservoir], kReservoir, 0, cost, nowNs, validUntil, ahead);
  if (decision == kOwn) {
    tally.borrowedTokens.fetch_add(cost, std::memory_order_relaxed);
    return kBorrowed;
  }
  if (shared) tally.borrowShare.fetch_add(wanted, std::memory_order_relaxed);
  return decision;
}

// Adds up to `units`; returns what found no room. A bucket under contention keeps trying within a bound,
// and tokens that cannot be placed are lost, never doubled.
template <template <class> class Atomic>
inline uint64_t Table<Atomic>::giveBack(B& bucket, T* tally, uint64_t units, uint64_t nowNs, uint64_t validUntil) noexcept {
  bool anew = tally != nullptr;
  for (int tries = 0; tries < kAcquireTries; ++tries) {
    Word word{bucket.word.load(std::memory_order_acquire)};
    const Reading p = readParams(bucket, word.epoch());
    if (anew && nowNs > validUntil && p.sinceNs <= validUntil) [[unlikely]] {
      // A lapsed version cuts its level off at the burst it had, which may leave no room for these.
      reanchor(bucket, tally, nowNs);
      anew = false;
      continue;
    }
    const int64_t leased = tally ? leasedOf(static_cast<uint32_t>(&bucket - buckets_)) : 0;
    const Evaluation e = evaluate(word.level(), p, nowNs, validUntil, fallbackFor(tally, p, nowNs, validUntil), leased);
    const int64_t room = std::max<int64_t>(0, static_cast<int64_t>(e.cap) - leased - e.level);
    const int64_t added = std::min<int64_t>(room, static_cast<int64_t>(std::min<uint64_t>(units, kLevelLimit)));
    if (added == 0) {
      if (bucket.word.load(std::memory_order_acquire) == word.bits) return units;
      continue;
    }
    const int64_t stored = e.level + added - e.accrued;
    if (stored < -2 * kLevelLimit) [[unlikely]] reanchor(bucket, tally, nowNs);
    else if (swapLevel(bucket, word, stored)) return units - static_cast<uint64_t>(added);
  }
  return units;
}

template <template <class> class Atomic>
inline int32_t Table<Atomic>::admitUncharged(uint32_t index, uint64_t meta, uint64_t cost) noexcept {
  // relaxed: totals.
  Uncharged<Atomic>& u = parts_.uncharged[index];
  (meta & kOff ? u.unmetered : u.passed).fetch_add(1, std::memory_order_relaxed);
  (meta & kOff ? u.unmeteredTokens : u.passedTokens).fetch_add(cost, std::memory_order_relaxed);
  return kUncharged;
}

}  // namespace foretoken
