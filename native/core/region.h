// Memory for a table: mapped once per process, found again by its token, unmapped when the last thread that
// attached and the last view over it are gone.
#pragma once

#include <memory>
#include <string>

#include "clock.h"
#include "table.h"

namespace foretoken {

using PlainTable = Table<std::atomic>;

struct RegionOptions {
  uint32_t capacity;
  double rate;   // tokens per second
  double burst;  // tokens
  ClockKind clock;
  uint64_t areaBytes;
};

class Region {
 public:
  // Null when the memory cannot be mapped.
  static std::shared_ptr<Region> create(const RegionOptions& options);
  // Null when no region of this process has the token.
  static std::shared_ptr<Region> find(const std::string& token);

  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  const std::string& token() const noexcept { return token_; }
  PlainTable& table() noexcept { return table_; }
  RegionClock clock() const noexcept { return {header_}; }
  PlainHeader& header() noexcept { return *header_; }
  uint8_t* area() noexcept { return base_ + header_->areaOffset; }
  uint64_t areaBytes() const noexcept { return header_->areaBytes; }
  std::atomic<uint32_t>& threads() noexcept { return threads_; }

  double unitsPerToken() const noexcept { return unitsPerToken_; }
  // Rounded down, so what is asked for can never become more.
  uint64_t rateUnits(double tokensPerSec) const noexcept;
  uint64_t units(double tokens) const noexcept;
  // Rounded up: a cost is never less than what was asked.
  uint64_t costUnits(double tokens) const noexcept;
  double ratePerSec(uint64_t rate) const noexcept;
  double tokens(double units) const noexcept { return units / unitsPerToken_; }

 private:
  Region() noexcept = default;

  uint8_t* base_ = nullptr;
  uint64_t bytes_ = 0;
  PlainHeader* header_ = nullptr;
  PlainTable table_;
  double unitsPerToken_ = 1;
  std::string token_;
  std::atomic<uint32_t> threads_{0};
};

// The largest power of two that keeps rate and burst below 2^34 units, where refill needs no 128-bit
// product: a hundred-millionth of a token at 60/s, a byte at 10^10/s, weeks of full load in one epoch. A burst
// of less than a 512th of the rate gets finer units: a level is rounded to one, so a burst must be many.
int tokenShiftFor(double rate, double burst) noexcept;

}  // namespace foretoken
