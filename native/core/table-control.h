// Bodies of table.h: what moves rates, bursts and deposits, one call at a time.
#pragma once

#include "table.h"

namespace foretoken {

template <template <class> class Atomic>
inline void Table<Atomic>::initialise(uint64_t rate, uint64_t burst, uint64_t nowNs) noexcept {
  constexpr auto relaxed = std::memory_order_relaxed;  // published by Header::ready
  h_->resourceRate.store(rate, relaxed);
  h_->resourceBurst.store(burst, relaxed);
  h_->firstRate.store(rate, relaxed);
  h_->firstBurst.store(burst, relaxed);
  h_->validUntil.store(1, relaxed);
  h_->highWater.store(1, relaxed);
  B& reservoir = buckets_[kReservoir];
  const uint32_t rateCode = encode(rate), burstCode = encode(burst);
  reservoir.params[0].sinceNs.store(nowNs, relaxed);
  reservoir.params[0].rateAndBurst.store(join(rateCode, burstCode), relaxed);
  reservoir.word.store(pack(static_cast<int64_t>(decode(burstCode)), 0).bits, relaxed);
  reservoir.meta.store(kLive, relaxed);
  tallies_[kReservoir].fallback.store(join(rateCode, burstCode), relaxed);
}

template <template <class> class Atomic>
template <class Clock, class Fn>
inline Status Table<Atomic>::addLocked(uint64_t flags, Slot& out, Clock&& clock, Fn&& prepare) noexcept {
  uint32_t index = h_->highWater.load(std::memory_order_relaxed);
  if (index < slots()) {
    h_->highWater.store(index + 1, std::memory_order_release);
  } else {
    // The queue of freed slots is first in, first out, so each rests for as long as possible.
    index = h_->freeHead.load(std::memory_order_relaxed);
    if (index == 0) return kFull;
    const auto next = static_cast<uint32_t>(buckets_[index].meta.load(std::memory_order_relaxed) >> kNextShift) & kIndexMask;
    h_->freeHead.store(next, std::memory_order_relaxed);
    if (next == 0) h_->freeTail.store(0, std::memory_order_relaxed);
  }
  resetTally(index);
  const uint32_t generation = nextGeneration(static_cast<uint32_t>(buckets_[index].meta.load(std::memory_order_relaxed) >> 32));
  // The slot is empty: rate, burst and level are zero since it was made or freed.
  const Status published = settled(clock, [&](bool lapsed) {
    return publish(index, lapsed, clock, [](const Evaluation&, const Reading&, Change& c) {
      c = Change{0, 0, 0, 0, 0};
      return true;
    });
  });
  if (published != kOk) return published;
  prepare(Slot{index, generation});
  // release [slot]
  buckets_[index].meta.store((static_cast<uint64_t>(generation) << 32) | (flags & kMayBorrow) | kLive, std::memory_order_release);
  h_->liveTargets.fetch_add(1, std::memory_order_relaxed);
  out = {index, generation};
  return kOk;
}

template <template <class> class Atomic>
template <class Clock>
inline Status Table<Atomic>::removeLocked(Slot slot, Clock&& clock) noexcept {
  if (!isLive(slot)) return kStale;
  Atomic<uint64_t>& meta = buckets_[slot.index].meta;
  meta.store(static_cast<uint64_t>(slot.generation) << 32 | (meta.load(std::memory_order_relaxed) & kLeased), std::memory_order_release);
  // Debts go along with tokens: a target cannot leave them behind and come back without.
  const Status emptied = settled(clock, [&](bool lapsed) {
    int64_t freed = 0;
    uint64_t rate = 0, burst = 0;
    const Status s = publish(slot.index, lapsed, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
      freed = e.level;
      rate = p.rate;
      burst = p.burst + p.deposit;
      c = Change{0, 0, 0, 0, 0};
      return true;
    });
    return s == kOk ? growReservoir(rate, burst, freed, lapsed, clock) : s;
  });
  if (emptied != kOk) return emptied;
  // A lease ends with its target: who holds one sees a new epoch or generation before it spends any more. Not before
  // the level was clipped under it, or what was leased would be in the bucket again as soon as it had refilled.
  for (uint32_t lane = 0; lane < lanesUsed(); ++lane) leaseOf(lane, slot.index).store(0, std::memory_order_release);
  meta.fetch_and(~kLeased, std::memory_order_release);
  const uint64_t fallback = tallies_[slot.index].fallback.load(std::memory_order_relaxed);
  const uint64_t otherRates = h_->fallbackRates.load(std::memory_order_relaxed) - rateOf(fallback);
  const uint64_t otherBursts = h_->fallbackBursts.load(std::memory_order_relaxed) - burstOf(fallback);
  tallies_[slot.index].fallback.store(0, std::memory_order_relaxed);
  h_->fallbackRates.store(otherRates, std::memory_order_relaxed);
  h_->fallbackBursts.store(otherBursts, std::memory_order_relaxed);
  tallies_[kReservoir].fallback.store(join(encode(less(h_->resourceRate.load(std::memory_order_relaxed), otherRates)),
                                           encode(less(h_->resourceBurst.load(std::memory_order_relaxed), otherBursts))),
                                      std::memory_order_relaxed);
  h_->liveTargets.fetch_sub(1, std::memory_order_relaxed);
  // The link lies in a word that no request writes: one in flight may still return a share to this slot.
  const uint32_t tail = h_->freeTail.load(std::memory_order_relaxed);
  if (tail == 0) h_->freeHead.store(slot.index, std::memory_order_relaxed);
  else buckets_[tail].meta.fetch_add(static_cast<uint64_t>(slot.index) << kNextShift, std::memory_order_relaxed);
  h_->freeTail.store(slot.index, std::memory_order_relaxed);
  return kOk;
}

template <template <class> class Atomic>
template <class Clock>
inline Status Table<Atomic>::setLimit(Slot slot, uint64_t rate, uint64_t burst, Clock&& clock) noexcept {
  Lock lock(*this);
  if (!lock) return lock.failure();
  if (!isLive(slot)) return kStale;
  B& bucket = buckets_[slot.index];
  const uint64_t meta = bucket.meta.load(std::memory_order_relaxed);
  if (burst == 0) {
    bucket.meta.fetch_and(~kHasLimit, std::memory_order_release);
    return kOk;
  }
  const bool fresh = !(meta & kHasLimit);
  const Status published = publishBucket(limits_[slot.index], nullptr, false, clock, [&](const Evaluation& e, const Reading&, Change& c) {
    const uint32_t burstCode = encode(burst);
    c = Change{encode(rate), burstCode, 0, 0, fresh ? static_cast<int64_t>(decode(burstCode)) : e.level};
    return true;
  });
  if (published != kOk) return published;
  bucket.meta.fetch_or(kHasLimit, std::memory_order_release);
  // A target with a limit is not leased: a new epoch tells who holds a lease from before.
  return fresh ? reanchorLocked(bucket, &tallies_[slot.index], clock()) : kOk;
}

template <template <class> class Atomic>
inline Status Table<Atomic>::setMayBorrow(Slot slot, bool may) noexcept {
  Lock lock(*this);
  if (!lock) return lock.failure();
  if (!isLive(slot)) return kStale;
  B& bucket = buckets_[slot.index];
  if (may) bucket.meta.fetch_or(kMayBorrow, std::memory_order_release);
  else bucket.meta.fetch_and(~kMayBorrow, std::memory_order_release);
  return kOk;
}

template <template <class> class Atomic>
inline Status Table<Atomic>::setMode(Slot slot, Mode mode, uint64_t nowNs) noexcept {
  Lock lock(*this);
  if (!lock) return lock.failure();
  if (!isLive(slot)) return kStale;
  Atomic<uint64_t>& meta = buckets_[slot.index].meta;
  Uncharged<Atomic>& uncharged = parts_.uncharged[slot.index];
  uint64_t seen = meta.load(std::memory_order_acquire), to = 0;
  if (mode != Mode::kEnforce && !(seen & kHasUncharged))
    for (auto* count : {&uncharged.passed, &uncharged.passedTokens, &uncharged.unmetered, &uncharged.unmeteredTokens})
      count->store(0, std::memory_order_relaxed);
  do {
    to = seen & ~(kShadow | kOff);
    if (mode != Mode::kEnforce) to |= kHasUncharged | (mode == Mode::kOff ? kOff : kShadow);
    // release [mode]: whoever sees it sees the counters at their beginning. Requests set other bits meanwhile.
  } while (!meta.compare_exchange_weak(seen, to, std::memory_order_acq_rel, std::memory_order_acquire));
  // Leases end: a new epoch tells who holds one, as in setLimit.
  return mode == Mode::kOff && !(seen & kOff) && (seen & kLeased) ? reanchorLocked(buckets_[slot.index], &tallies_[slot.index], nowNs) : kOk;
}

template <template <class> class Atomic>
template <class Clock>
inline Status Table<Atomic>::allocate(Share* shares, uint32_t count, bool reservoirTakesRest, Clock&& clock) noexcept {
  Lock lock(*this);
  if (!lock) return lock.failure();
  if (count == 0 || count > highWater()) return kInvalid;
  if (lapsedAt(clock())) return kLapsed;
  uint64_t rates = 0, bursts = 0, deposits = 0;
  const uint64_t maxRate = h_->resourceRate.load(std::memory_order_relaxed);
  const uint64_t maxBurst = h_->resourceBurst.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < highWater(); ++i) {
    const Reading p = current(i);
    deposits += p.deposit;
    if (i < count && !(buckets_[i].meta.load(std::memory_order_relaxed) & kLive)) shares[i] = {0, 0};
    if (i == kReservoir && reservoirTakesRest) continue;
    rates += i < count ? decode(shares[i].rate) : p.rate;
    bursts += i < count ? decode(shares[i].burst) : p.burst;
    if (rates > maxRate) return kOverRate;
    if (bursts > maxBurst) return kOverBurst;
  }
  if (bursts + deposits > maxBurst) return kOverBurst;
  if (reservoirTakesRest) shares[kReservoir] = {encode(maxRate - rates), encode(maxBurst - bursts - deposits)};

  int64_t freed = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const Reading p = current(i);
    const uint32_t lowRate = encode(std::min(p.rate, decode(shares[i].rate)));
    const uint32_t lowBurst = encode(std::min(p.burst, decode(shares[i].burst)));
    if (decode(lowRate) == p.rate && decode(lowBurst) == p.burst) continue;
    int64_t cut = 0;
    const Status s = publish(i, false, clock, [&](const Evaluation& e, const Reading& now, Change& c) {
      c = keepDeposit(now, lowRate, lowBurst, e.level, c.leased);
      const auto most = static_cast<int64_t>(decode(lowBurst) + now.deposit);
      cut = cutOff(e.level, most - c.leased);
      return true;
    });
    if (s != kOk) return s;
    freed += cut;
  }
  for (uint32_t i = 0; i < count; ++i) {
    const Reading p = current(i);
    if (decode(shares[i].rate) == p.rate && decode(shares[i].burst) == p.burst) continue;
    const Status s = publish(i, false, clock, [&](const Evaluation& e, const Reading& now, Change& c) {
      c = keepDeposit(now, shares[i].rate, shares[i].burst, e.level, c.leased);
      return true;
    });
    if (s != kOk) return s;
  }
  if (freed > 0) {
    const uint64_t now = clock();
    giveBack(buckets_[kReservoir], &tallies_[kReservoir], static_cast<uint64_t>(freed), now, validUntilAt(now));
  }
  return kOk;
}

template <template <class> class Atomic>
template <class Clock>
inline uint64_t Table<Atomic>::deposit(Slot slot, uint64_t units, uint64_t untilNs, Clock&& clock) noexcept {
  Lock lock(*this);
  if (!lock || !isLive(slot) || units == 0 || lapsedAt(clock())) return 0;
  // One that would have expired when it arrives is not made.
  if (untilNs < clock() + (1ull << kExpiryShift)) return 0;
  reclaimLocked(slot.index, false, false, clock);
  const Reading before = current(slot.index);
  uint64_t moved = 0;
  uint32_t code = 0;
  publish(kReservoir, false, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
    const uint64_t most = std::min({units, p.burst, static_cast<uint64_t>(std::max<int64_t>(e.level, 0))});
    code = encode(before.deposit + most);
    moved = decode(code) > before.deposit ? decode(code) - before.deposit : 0;
    if (moved == 0) return false;
    c = Change{encode(p.rate), encode(p.burst - moved), 0, 0, e.level - static_cast<int64_t>(moved)};
    return true;
  });
  if (moved == 0) return 0;
  const uint64_t until = std::max(untilNs, before.deposit ? before.depositUntilNs : 0);
  const Status s = publish(slot.index, false, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
    c = Change{encode(p.rate), encode(p.burst), code, until, e.level + static_cast<int64_t>(moved), c.leased};
    return true;
  });
  return s == kOk ? moved : 0;
}

template <template <class> class Atomic>
template <class Clock>
inline Status Table<Atomic>::setFallbacks(const Share* shares, uint32_t count, Clock&& clock) noexcept {
  Lock lock(*this);
  if (!lock) return lock.failure();
  if (count > highWater()) return kInvalid;
  uint64_t rates = 0, bursts = 0;
  for (uint32_t i = 1; i < highWater(); ++i) {
    const uint64_t now = tallies_[i].fallback.load(std::memory_order_relaxed);
    const bool live = buckets_[i].meta.load(std::memory_order_relaxed) & kLive;
    rates += !live ? 0 : decode(i < count ? shares[i].rate : static_cast<uint32_t>(now));
    bursts += !live ? 0 : decode(i < count ? shares[i].burst : static_cast<uint32_t>(now >> 32));
  }
  if (rates > h_->resourceRate.load(std::memory_order_relaxed)) return kOverFallbackRate;
  if (bursts > h_->resourceBurst.load(std::memory_order_relaxed)) return kOverFallbackBurst;
  for (const bool raise : {false, true}) {
    for (uint32_t i = 1; i < count; ++i) {
      if (!(buckets_[i].meta.load(std::memory_order_relaxed) & kLive)) continue;
      const uint64_t now = tallies_[i].fallback.load(std::memory_order_relaxed);
      const uint64_t rate = decode(static_cast<uint32_t>(now)), burst = decode(static_cast<uint32_t>(now >> 32));
      const uint64_t wantRate = decode(shares[i].rate), wantBurst = decode(shares[i].burst);
      const uint64_t next = raise ? join(shares[i].rate, shares[i].burst)
                                  : join(encode(std::min(rate, wantRate)), encode(std::min(burst, wantBurst)));
      if (next == now) continue;
      const Status s = settled(clock, [&](bool lapsed) { return setFallbackLocked(i, next, lapsed, clock); });
      if (s != kOk) return s;
    }
  }
  return kOk;
}

template <template <class> class Atomic>
template <class Clock>
inline Status Table<Atomic>::endow(Slot slot, Clock&& clock) noexcept {
  Lock lock(*this);
  if (!lock) return kBusy;
  if (!isLive(slot)) return kStale;
  // After a lapse it has its fallback already.
  if (lapsedAt(clock())) return kOk;
  const Reading has = current(slot.index);
  if (has.rate > 0 || has.burst > 0 || has.deposit > 0) return kOk;
  const uint64_t fallback = tallies_[slot.index].fallback.load(std::memory_order_relaxed);
  uint32_t rate = 0, burst = 0;
  int64_t moved = 0;
  const Status taken = publish(kReservoir, false, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
    rate = encode(std::min(rateOf(fallback), p.rate));
    burst = encode(std::min(burstOf(fallback), p.burst));
    moved = std::clamp<int64_t>(e.level, 0, static_cast<int64_t>(decode(burst)));
    c = Change{encode(p.rate - decode(rate)), encode(p.burst - decode(burst)), 0, 0, e.level - moved};
    return true;
  });
  if (taken != kOk) return taken;
  return publish(slot.index, false, clock, [&](const Evaluation& e, const Reading&, Change& c) {
    c = Change{rate, burst, 0, 0, e.level + moved};
    return true;
  });
}

template <template <class> class Atomic>
template <class Clock>
inline Status Table<Atomic>::extendValidity(uint64_t untilNs, bool& resumed, Clock&& clock) noexcept {
  Lock lock(*this);
  if (!lock) return lock.failure();
  resumed = false;
  untilNs = std::min(untilNs, kLatestNs);
  const uint64_t wanted = Promise::until(untilNs).bits;
  for (int tries = 0; tries < 4; ++tries) {
    if (!lapsedAt(clock())) {
      // acq_rel [validity]: pairs with the latch in lapse.
      Promise old{h_->validUntil.load(std::memory_order_acquire)};
      if (old.hasLapsed()) continue;
      if (old.bits >= wanted) return kOk;
      if (h_->validUntil.compare_exchange_strong(old.bits, wanted, std::memory_order_acq_rel, std::memory_order_acquire)) return kOk;
      continue;
    }
    resumed = true;
    uint64_t latest = asOf(clock());
    const uint64_t promised = untilNs > latest ? untilNs - latest : 0;
    const Status s = adoptFallbacks(latest, clock);
    if (s != kOk) return s;
    // No version may be younger than the promise, also when the clock stepped back before it was given.
    h_->validUntil.store(Promise::until(std::min(latest + promised, kLatestNs)).bits, std::memory_order_release);
    return kOk;
  }
  return kBusy;
}

template <template <class> class Atomic>
template <class Clock>
inline Status Table<Atomic>::setResource(uint64_t rate, uint64_t burst, Clock&& clock) noexcept {
  Lock lock(*this);
  if (!lock) return lock.failure();
  const Status s = settled(clock, [&](bool lapsed) {
    uint64_t rates = 0, bursts = 0;
    for (uint32_t i = 1; i < highWater(); ++i) {
      const Reading p = current(i);
      rates += p.rate;
      bursts += p.burst + p.deposit;
    }
    if (rates > rate) return kOverRate;
    if (bursts > burst) return kOverBurst;
    if (h_->fallbackRates.load(std::memory_order_relaxed) > rate) return kOverFallbackRate;
    if (h_->fallbackBursts.load(std::memory_order_relaxed) > burst) return kOverFallbackBurst;
    return publish(kReservoir, lapsed, clock, [&](const Evaluation& e, const Reading&, Change& c) {
      c = Change{encode(rate - rates), encode(burst - bursts), 0, 0, e.level};
      return true;
    });
  });
  if (s != kOk) return s;
  h_->resourceRate.store(rate, std::memory_order_relaxed);
  h_->resourceBurst.store(burst, std::memory_order_relaxed);
  tallies_[kReservoir].fallback.store(join(encode(rate - h_->fallbackRates.load(std::memory_order_relaxed)),
                                           encode(burst - h_->fallbackBursts.load(std::memory_order_relaxed))),
                                      std::memory_order_relaxed);
  // [tick]: the bound reckons with one rate and one burst since the last tick.
  h_->tickNs.store(0, std::memory_order_relaxed);
  return kOk;
}

template <template <class> class Atomic>
inline Status Table<Atomic>::reanchorLocked(B& bucket, T* tally, uint64_t nowNs) noexcept {
  return publishBucket(bucket, tally, tally && lapsedAt(nowNs), [nowNs] { return nowNs; }, [](const Evaluation& e, const Reading& p, Change& c) {
    c = keepDeposit(p, encode(p.rate), encode(p.burst), e.level, c.leased);
    return true;
  });
}

// [epoch] One change of parameters: settle under the old version, write the other copy, swap. The clock
// is read after the word, so no request that the word contains happened later than the change.
//
// [validity] A version made under a promise is dated within it and falls back with it; a change that is
// overtaken by the lapse is refused. One made after the lapse is dated after it, whatever the clock says,
// starts from what holds without a controller, and holds as it stands.
template <template <class> class Atomic>
template <class Clock, class Fn>
inline Status Table<Atomic>::publishBucket(B& bucket, T* tally, bool lapsed, Clock&& clock, Fn&& decide) noexcept {
  for (int tries = 0; tries < kPublishTries; ++tries) {
    Word word{bucket.word.load(std::memory_order_acquire)};
    const Reading p = readParams(bucket, word.epoch());
    uint64_t now = std::max(asOf(clock()), p.sinceNs);
    const uint64_t validUntil = tally ? peekValidUntil() : 0;
    if (lapsed) now = std::max(now, validUntil + 1);
    else if (tally && now > validUntil) return kLapsed;
    const uint64_t fallback = tally ? tally->fallback.load(std::memory_order_relaxed) : 0;
    // [lease]: after the word and the clock.
    const int64_t leased = tally ? leasedOf(static_cast<uint32_t>(&bucket - buckets_)) : 0;
    const Evaluation e = evaluate(word.level(), p, now, validUntil, fallback, leased);
    Change c{};
    c.leased = leased;
    if (!decide(e, lapsed ? without(p, validUntil, fallback) : p, c)) return kInvalid;
    uint64_t expiry = 0;
    if (c.deposit && c.depositUntilNs > now) expiry = std::min<uint64_t>((c.depositUntilNs >> kExpiryShift) - (now >> kExpiryShift), UINT32_MAX);
    const auto epoch = static_cast<uint8_t>(word.epoch() + 1);
    const int64_t most = static_cast<int64_t>(decode(c.burst) + (expiry ? decode(c.deposit) : 0)) - c.leased;
    Params<Atomic>& next = bucket.params[epoch & 1];
    // release [epoch]
    next.sinceNs.store(now, std::memory_order_release);
    next.rateAndBurst.store(join(c.rate, c.burst), std::memory_order_release);
    next.deposit.store((expiry << 32) | c.deposit, std::memory_order_release);
    const uint64_t bits = pack(std::min(c.level, most), epoch).bits;
    if (bucket.word.compare_exchange_strong(word.bits, bits, std::memory_order_acq_rel, std::memory_order_acquire)) return kOk;
  }
  return kBusy;
}

template <template <class> class Atomic>
template <class Clock>
inline Status Table<Atomic>::growReservoir(uint64_t rate, uint64_t burst, int64_t level, bool lapsed, Clock&& clock) noexcept {
  return publish(kReservoir, lapsed, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
    c = Change{encode(p.rate + rate), encode(p.burst + burst), 0, 0, e.level + level};
    return true;
  });
}

// What lies above the burst is what is left of the deposit. If it expired a while ago, refill since then
// counts as deposit too, up to its amount: the burst under it had not been given to anyone else. [lease] What is on
// lease lies in that burst.
template <template <class> class Atomic>
template <class Clock>
inline int64_t Table<Atomic>::reclaimLocked(uint32_t index, bool early, bool lapsed, Clock&& clock) noexcept {
  const Reading p = current(index);
  if (p.deposit == 0 || (!early && asOf(clock()) < p.depositUntilNs)) return 0;
  int64_t unused = 0;
  Status s = publish(index, lapsed, clock, [&](const Evaluation& e, const Reading& now, Change& c) {
    const auto most = static_cast<int64_t>(now.burst) - c.leased, deposit = static_cast<int64_t>(now.deposit);
    unused = std::min(cutOff(std::min(e.level + e.overflow, most + deposit), most), deposit);
    c = Change{encode(now.rate), encode(now.burst), 0, 0, e.level, c.leased};
    return true;
  });
  if (s == kOk) s = growReservoir(0, p.deposit, unused, lapsed, clock);
  return s == kOk ? unused : 0;
}

template <template <class> class Atomic>
template <class Clock>
inline Status Table<Atomic>::setFallbackLocked(uint32_t index, uint64_t next, bool lapsed, Clock&& clock) noexcept {
  const uint64_t old = tallies_[index].fallback.load(std::memory_order_relaxed);
  const uint64_t rest = tallies_[kReservoir].fallback.load(std::memory_order_relaxed);
  const uint64_t otherRates = h_->fallbackRates.load(std::memory_order_relaxed) - rateOf(old);
  const uint64_t otherBursts = h_->fallbackBursts.load(std::memory_order_relaxed) - burstOf(old);
  const uint64_t rate = less(h_->resourceRate.load(std::memory_order_relaxed), otherRates);
  const uint64_t burst = less(h_->resourceBurst.load(std::memory_order_relaxed), otherBursts);
  if (rateOf(next) > rate) return kOverFallbackRate;
  if (burstOf(next) > burst) return kOverFallbackBurst;
  const uint64_t left = join(encode(rate - rateOf(next)), encode(burst - burstOf(next)));
  const auto store = [&](uint64_t own, uint64_t reservoir) {
    tallies_[kReservoir].fallback.store(reservoir, std::memory_order_relaxed);
    tallies_[index].fallback.store(own, std::memory_order_relaxed);
    h_->fallbackRates.store(otherRates + rateOf(own), std::memory_order_relaxed);
    h_->fallbackBursts.store(otherBursts + burstOf(own), std::memory_order_relaxed);
  };
  if (lapsed) {
    const Status s = shift(index, next, left, clock);
    if (s != kOk) return s;
  } else {
    // Both are lowered before either is raised, and raised only if the promise has not lapsed meanwhile:
    // then nobody has yet drawn on what is taken away.
    store(lesser(old, next), lesser(rest, left));
    if (lapsedAt(clock())) return kLapsed;
  }
  store(next, left);
  return kOk;
}

// Without a live controller the parameters themselves are the fallback, so a change of it moves rate and
// burst between the reservoir and a target at once, and tokens with the burst they lie under.
template <template <class> class Atomic>
template <class Clock>
inline Status Table<Atomic>::shift(uint32_t index, uint64_t next, uint64_t left, Clock&& clock) noexcept {
  int64_t given = 0, cut = 0;
  Status s = publish(kReservoir, true, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
    const uint64_t low = lesser(join(encode(p.rate), encode(p.burst)), left);
    given = std::clamp<int64_t>(e.level, 0, static_cast<int64_t>(p.burst - burstOf(low)));
    c = Change{static_cast<uint32_t>(low), static_cast<uint32_t>(low >> 32), 0, 0, e.level - given};
    return true;
  });
  if (s != kOk) return s;
  s = publish(index, true, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
    const uint64_t low = lesser(join(encode(p.rate), encode(p.burst)), next);
    cut = cutOff(e.level, static_cast<int64_t>(burstOf(low)) - c.leased);
    c = Change{static_cast<uint32_t>(low), static_cast<uint32_t>(low >> 32), 0, 0, e.level, c.leased};
    return true;
  });
  if (s != kOk) return s;
  s = publish(kReservoir, true, clock, [&](const Evaluation& e, const Reading&, Change& c) {
    c = Change{static_cast<uint32_t>(left), static_cast<uint32_t>(left >> 32), 0, 0, e.level + cut};
    return true;
  });
  if (s != kOk) return s;
  return publish(index, true, clock, [&](const Evaluation& e, const Reading&, Change& c) {
    c = Change{static_cast<uint32_t>(next), static_cast<uint32_t>(next >> 32), 0, 0, e.level + given, c.leased};
    return true;
  });
}

// Every slot takes on its fallback parameters as its own, levels carried over, deposits ended. They hold
// already, because the promise has lapsed, so no order is needed. Raises `latestNs` to the youngest version.
template <template <class> class Atomic>
template <class Clock>
inline Status Table<Atomic>::adoptFallbacks(uint64_t& latestNs, Clock&& clock) noexcept {
  for (uint32_t i = 0; i < highWater(); ++i) {
    if (written(buckets_[i]).sinceNs <= peekValidUntil()) {
      const Status s = publish(i, true, clock, [&](const Evaluation& e, const Reading& p, Change& c) {
        c = Change{encode(p.rate), encode(p.burst), 0, 0, e.level, c.leased};
        return true;
      });
      if (s != kOk) return s;
    }
    latestNs = std::max(latestNs, written(buckets_[i]).sinceNs);
  }
  return kOk;
}

template <template <class> class Atomic>
inline void Table<Atomic>::resetTally(uint32_t index) noexcept {
  T& t = tallies_[index];
  C& c = completions_[index];
  constexpr auto relaxed = std::memory_order_relaxed;  // published by the slot's new generation
  // [tick]: what the last owner was admitted leaves the sums on both sides.
  h_->tickAdmitted.fetch_sub(admittedTokensOf(index), relaxed);
  const Counted lanes = inLanesOf(index);
  t.admitted.store(0 - lanes.admitted, relaxed);
  t.admittedTokens.store(0 - lanes.admittedTokens, relaxed);
  for (auto* a : {&t.denied, &t.deniedTokens, &t.borrowedTokens, &t.fallback, &t.waitUntilNs,
                  &c.count, &c.readBytes, &c.writeBytes, &c.durationNs})
    a->store(0, relaxed);
  // Until the first tick divides the reservoir, a newcomer may draw on it like anyone.
  t.borrowShare.store(kLevelLimit, relaxed);
}

}  // namespace foretoken
