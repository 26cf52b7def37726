// Memory for a table: mapped once per process, found again by its token or its name, unmapped when the last thread
// that attached and the last view over it are gone.
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

// Why a named region cannot be had. The system's own reason is in errno for kSystem.
enum class Refusal : int {
  kNone = 0,
  kSystem = 1,
  kNotOne = 2,      // the file is no region
  kAbi = 3,         // laid out by another version of the library
  kSize = 4,        // shorter or longer than its header says
  kClock = 5,       // its clock does not run as this process's does
  kOwner = 6,       // another user's, or others may read or write it
  kNotReady = 7,    // its creator has not finished
  kOptions = 8,     // in use with another rate, burst or capacity
  kCrowded = 9,     // as many processes as there is room for
  kPidSpace = 10,   // in use from another PID namespace, whose processes cannot be told alive or dead from here
  kInUse = 11,      // to be removed, but somebody has it open
  kMissing = 12,    // to be removed, but there is none
};

class Region {
 public:
  // Null when the memory cannot be mapped.
  static std::shared_ptr<Region> create(const RegionOptions& options);
  // Creates the region of that name or attaches to it; see named.h.
  static std::shared_ptr<Region> open(const std::string& name, const RegionOptions& options, Refusal& refusal);
  // Null when no region of this process has the token.
  static std::shared_ptr<Region> find(const std::string& token);

  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  const std::string& token() const noexcept { return token_; }
  bool isNamed() const noexcept { return file_ >= 0; }
  PlainTable& table() noexcept { return table_; }
  RegionClock clock() const noexcept { return {header_}; }
  PlainHeader& header() noexcept { return *header_; }
  // The header, and the buckets after it.
  uint8_t* words() noexcept { return base_; }
  uint64_t wordsBytes() const noexcept { return kHeaderBytes + (header_->capacity + uint64_t{1}) * sizeof(PlainBucket); }
  uint8_t* area() noexcept { return base_ + header_->areaOffset; }
  uint64_t areaBytes() const noexcept { return header_->areaBytes; }
  uint8_t* directory() noexcept { return base_ + directory_; }

  // A thread of this process attaches or lets go.
  void enter() noexcept { threads().fetch_add(1, std::memory_order_relaxed); }
  void leave() noexcept { threads().fetch_sub(1, std::memory_order_relaxed); }
  // Threads that have it attached, over all processes that are alive.
  uint64_t attachedThreads() noexcept;

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

  // Lays out an empty table in zeroed memory. `ready` comes last.
  void lay(const RegionOptions& options, uint64_t directoryBytes) noexcept;
  // Finds the arrays of a table that is laid out.
  void locate() noexcept;
  // Becomes a member; false when there is no room for another process.
  bool join() noexcept;
  void leaveFile() noexcept;
  std::atomic<uint64_t>& threads() noexcept { return member_ ? member_->threads : threads_; }
  static std::shared_ptr<Region> remember(std::shared_ptr<Region> region);

  uint8_t* base_ = nullptr;
  uint64_t bytes_ = 0;
  uint64_t directory_ = 0;
  PlainHeader* header_ = nullptr;
  PlainTable table_;
  double unitsPerToken_ = 1;
  std::string token_;
  std::atomic<uint64_t> threads_{0};
  // Of a named region: its file, kept open because the lock on it says that it is in use.
  int file_ = -1;
  std::string path_;
  Member<std::atomic>* member_ = nullptr;
};

// The largest power of two that keeps rate and burst below 2^34 units, where refill needs no 128-bit
// product: a hundred-millionth of a token at 60/s, a byte at 10^10/s, weeks of full load in one epoch. A burst
// of less than a 512th of the rate gets finer units: a level is rounded to one, so a burst must be many.
int tokenShiftFor(double rate, double burst) noexcept;

}  // namespace foretoken
