// A table over plain memory, for any atomic type: what Region does, without mapping or a clock.
#pragma once

#include <memory>
#include <new>

#include "table.h"

namespace foretoken {

template <template <class> class Atomic>
class Memory {
 public:
  using Tab = Table<Atomic>;

  Memory(uint32_t capacity, uint64_t rate, uint64_t burst, uint64_t nowNs = 1, Sharing<Header<Atomic>> sharing = {})
      : buckets_(new Bucket<Atomic>[capacity + 1]()),
        tallies_(new Tally<Atomic>[capacity + 1]()),
        completions_(new Completion<Atomic>[capacity + 1]()),
        limits_(new Bucket<Atomic>[capacity + 1]()),
        lines_(new Line<Atomic>[capacity + 1]()),
        tickets_(new Atomic<uint64_t>[kSeats * (capacity + 1)]()),
        lanes_(new Lane<Atomic>[(capacity + 1) * kLanes]()),
        leases_(new Atomic<uint64_t>[(capacity + 1) * kLanes]()),
        uncharged_(new Uncharged<Atomic>[capacity + 1]()),
        header_(new Header<Atomic>()) {
    header_->capacity = capacity;
    header_->clockKind = ClockKind::kVirtual;
    table = Tab(header_.get(), {buckets_.get(), tallies_.get(), completions_.get(), limits_.get(), lines_.get(), tickets_.get(), lanes_.get(),
                                leases_.get(), uncharged_.get(), capacity + 1, capacity + 1}, sharing);
    table.initialise(rate, burst, nowNs);
  }

  Tab table;
  Header<Atomic>& header() { return *header_; }
  Bucket<Atomic>& bucket(uint32_t i) { return buckets_[i]; }
  Tally<Atomic>& tally(uint32_t i) { return tallies_[i]; }
  Bucket<Atomic>& limit(uint32_t i) { return limits_[i]; }

 private:
  std::unique_ptr<Bucket<Atomic>[]> buckets_;
  std::unique_ptr<Tally<Atomic>[]> tallies_;
  std::unique_ptr<Completion<Atomic>[]> completions_;
  std::unique_ptr<Bucket<Atomic>[]> limits_;
  std::unique_ptr<Line<Atomic>[]> lines_;
  std::unique_ptr<Atomic<uint64_t>[]> tickets_;
  std::unique_ptr<Lane<Atomic>[]> lanes_;
  std::unique_ptr<Atomic<uint64_t>[]> leases_;
  std::unique_ptr<Uncharged<Atomic>[]> uncharged_;
  std::unique_ptr<Header<Atomic>> header_;
};

}  // namespace foretoken
