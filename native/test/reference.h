// Exact buckets to hold the table against: whole numbers of 10^-9 units in 128 bits, so a rate times a time
// is a whole number and nothing is ever rounded.
#pragma once

#include <algorithm>
#include <cstdint>

namespace reference {

using Wide = __int128;
inline constexpr Wide kNano = 1000000000;

// A level is whole units. What is written back for a full bucket is its burst less what has accrued, rounded
// down; so the next refill can come up to one unit early, as if the bucket held up to one unit more than its
// burst. It never adds up: a law over any interval is exact for bursts that are one unit larger per bucket.
inline constexpr uint64_t kGrain = 1;

inline Wide units(uint64_t value) { return static_cast<Wide>(value) * kNano; }

// A bucket as the laws mean it: `rate`, `burst`, full at the start.
class Bucket {
 public:
  Bucket() = default;
  // `grain`: the units by which rounding down may delay what is cut off at a full bucket, see kGrain.
  Bucket(uint64_t rate, uint64_t burst, uint64_t nowNs, uint64_t grain = kGrain)
      : grain_(units(grain)), level_(units(burst) + grain_), rate_(rate), burst_(units(burst) + grain_), atNs_(nowNs) {}

  // Time that stands still or goes back brings nothing.
  void advance(uint64_t nowNs) {
    if (nowNs <= atNs_) return;
    level_ = std::min(burst_, level_ + static_cast<Wide>(rate_) * (nowNs - atNs_));
    atNs_ = nowNs;
  }
  void change(uint64_t rate, uint64_t burst) {
    rate_ = rate;
    burst_ = units(burst) + grain_;
    level_ = std::min(level_, burst_);
  }
  void take(uint64_t cost) { level_ -= units(cost); }
  void give(uint64_t cost) { level_ = std::min(burst_, level_ + units(cost)); }

  Wide level() const { return level_; }
  Wide burst() const { return burst_; }
  uint64_t rate() const { return rate_; }

 private:
  Wide grain_ = 0;
  Wide level_ = 0;
  uint64_t rate_ = 0;
  Wide burst_ = 0;
  uint64_t atNs_ = 0;
};

// A target's own bucket: what is allocated, a deposit with an end, what holds without a controller.
class Target {
 public:
  void advance(uint64_t nowNs) {
    if (nowNs <= atNs_) return;
    if (deposit_ && depositUntilNs_ <= nowNs) {
      accrue(depositUntilNs_);
      deposit_ = 0;
      clip();
    }
    accrue(nowNs);
  }
  // From here on the fallback holds, and a deposit is over.
  void lapse(uint64_t rate, uint64_t burst) {
    deposit_ = 0;
    change(rate, burst);
  }
  void change(uint64_t rate, uint64_t burst) {
    rate_ = rate;
    burst_ = burst;
    clip();
  }
  void receive(uint64_t amount, uint64_t untilNs) {
    level_ += units(amount);
    deposit_ += amount;
    depositUntilNs_ = untilNs;
    clip();
  }
  void endDeposit() {
    deposit_ = 0;
    clip();
  }
  void take(uint64_t cost) { level_ -= units(cost); }
  void give(uint64_t cost) {
    // What a level above its cap holds is not taken away by a refund that has no room.
    level_ = std::max(level_, std::min(cap(), level_ + units(cost)));
  }

  Wide level() const { return level_; }
  // What is out on lease has been taken and still counts as if it lay in the bucket.
  void lend(uint64_t leased) {
    leased_ = leased;
    clip();
  }
  Wide cap() const { return units(burst_ + deposit_ + kGrain) - units(leased_); }
  uint64_t leased() const { return leased_; }
  uint64_t rate() const { return rate_; }
  uint64_t burst() const { return burst_; }
  uint64_t deposit() const { return deposit_; }
  uint64_t depositUntilNs() const { return depositUntilNs_; }
  void begin(uint64_t nowNs) { *this = Target(); atNs_ = nowNs; }

 private:
  void accrue(uint64_t toNs) {
    if (toNs <= atNs_) return;
    level_ += static_cast<Wide>(rate_) * (toNs - atNs_);
    atNs_ = toNs;
    clip();
  }
  void clip() { level_ = std::min(level_, cap()); }

  Wide level_ = 0;
  uint64_t rate_ = 0, burst_ = 0, deposit_ = 0, depositUntilNs_ = 0, leased_ = 0, atNs_ = 0;
};

}  // namespace reference
