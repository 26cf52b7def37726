// Bodies of table.h: those who wait.
#pragma once

#include "table.h"

namespace foretoken {

template <template <class> class Atomic>
inline void Table<Atomic>::waitInLine(uint32_t index, uint64_t untilNs, uint64_t nowNs) noexcept {
  // relaxed: see acquire.
  const bool forms = untilNs > nowNs && tallies_[index].waitUntilNs.load(std::memory_order_relaxed) <= nowNs;
  tallies_[index].waitUntilNs.store(untilNs, std::memory_order_relaxed);
  if (untilNs > nowNs) buckets_[index].meta.fetch_or(kHasLine, std::memory_order_release);
  else buckets_[index].meta.fetch_and(~kHasLine, std::memory_order_release);
  if (forms && leasedOf(index) > 0) reanchor(buckets_[index], &tallies_[index], nowNs);
}

template <template <class> class Atomic>
inline int32_t Table<Atomic>::acquireInLine(Slot slot, uint32_t seat, uint64_t ticket, uint64_t cost, uint64_t nowNs, uint64_t holdUntilNs,
    uint64_t& ahead) noexcept {
  if (!isLive(slot)) return kBadHandle;
  L& line = lines_[slot.index];
  // release [line]: whoever sees the seat's bit sees its ticket.
  ticketOf(seat, slot.index).store(ticket, std::memory_order_release);
  // acquire [line]
  if (!(line.seats.load(std::memory_order_acquire) >> seat & 1)) line.seats.fetch_or(1ull << seat, std::memory_order_acq_rel);
  ahead = tokensAhead(slot.index, seat, ticket, nowNs);
  const int32_t decision = acquireAny(slot, cost, nowNs, true, std::min(ahead, static_cast<uint64_t>(kLevelLimit)));
  if (decision > 0) {
    T& tally = tallies_[slot.index];
    tally.denied.fetch_sub(1, std::memory_order_relaxed);
    tally.deniedTokens.fetch_sub(cost, std::memory_order_relaxed);
  } else if (holdUntilNs) {
    waitInLine(slot.index, holdUntilNs, nowNs);
  }
  return decision;
}

template <template <class> class Atomic>
inline void Table<Atomic>::leaveLine(uint32_t index, uint32_t seat, uint64_t nowNs) noexcept {
  ticketOf(seat, index).store(0, std::memory_order_release);
  lines_[index].seats.fetch_and(~(1ull << seat), std::memory_order_acq_rel);
  if (firstTicket(index, kSeats, nowNs) == 0) waitInLine(index, 0, nowNs);
}

template <template <class> class Atomic>
inline uint64_t Table<Atomic>::tokensWaiting(uint32_t index, uint64_t nowNs) const noexcept {
  if (!lines_) return 0;
  const uint64_t first = firstTicket(index, kSeats, nowNs);
  return first ? lines_[index].tickets.load(std::memory_order_relaxed) + 1 - first : 0;
}

template <template <class> class Atomic>
inline uint32_t Table<Atomic>::takeSeat() noexcept {
  for (uint32_t seat = 0; seat < kSeats; ++seat) {
    uint64_t owner = h_->seats[seat].owner.load(std::memory_order_acquire);
    if (owner && !(sharing_.isGone && sharing_.isGone(owner))) continue;
    // Its tickets must be gone before it shows life again.
    if (!h_->seats[seat].owner.compare_exchange_strong(owner, sharing_.self, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
    h_->seats[seat].untilNs.store(0, std::memory_order_release);
    for (uint32_t i = 0; i < highWater(); ++i)
      if (ticketOf(seat, i).load(std::memory_order_relaxed)) ticketOf(seat, i).store(0, std::memory_order_relaxed);
    return seat;
  }
  return kSeats;
}

// The first ticket of a line, of seats other than this one that show life; 0 if there is none.
template <template <class> class Atomic>
inline uint64_t Table<Atomic>::firstTicket(uint32_t index, uint32_t except, uint64_t nowNs) const noexcept {
  uint64_t seats = lines_[index].seats.load(std::memory_order_acquire);
  if (except < kSeats) seats &= ~(1ull << except);
  uint64_t first = 0;
  for (; seats; seats &= seats - 1) {
    const auto seat = static_cast<uint32_t>(__builtin_ctzll(seats));
    if (h_->seats[seat].untilNs.load(std::memory_order_acquire) <= nowNs) continue;
    const uint64_t ticket = ticketOf(seat, index).load(std::memory_order_acquire);
    // Places wrap: what counts is the distance.
    if (ticket && (!first || static_cast<int64_t>(ticket - first) < 0)) first = ticket;
  }
  return first;
}

}  // namespace foretoken
