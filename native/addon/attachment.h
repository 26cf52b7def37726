// A thread's attachment to a table, and the frame through which both sides see arguments and answers.
#pragma once

#include <napi.h>

#include <cmath>
#include <memory>
#include <vector>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "region.h"

namespace foretoken {

// Positions in the frame, in doubles.
enum FrameField : uint32_t {
  kHandle, kCost, kDecision, kLevel, kRate, kBurst, kDeposit, kWaitMs, kRead, kWrite, kDuration, kTicket,
  kHeld, kLeft, kServed, kEpoch, kPromise, kNowMs, kFrameFields
};

// Columns of a collected row and of a level row, in doubles.
enum CollectColumn : uint32_t {
  kGeneration, kArrivals, kAdmitted, kDenials, kDemandTokens, kAdmittedTokens, kBorrowedTokens,
  kReadBytes, kWriteBytes, kCompletions, kDurationNs, kWaitingTokens,
  kPassed, kPassedTokens, kUnmetered, kUnmeteredTokens, kCollectColumns
};
enum LevelColumn : uint32_t { kLevelTokens, kLevelRate, kLevelBurst, kLevelDeposit, kLevelColumns };

// How long a line is held for those in it, and their seat for its thread, after they were last heard of.
constexpr uint64_t kHoldNs = 250000000;

constexpr uint32_t kBatch = 4096;
constexpr uint64_t kLargestHandle = (uint64_t{1} << 53) - 1;

struct Frame {
  double fields[kFrameFields];
  double batchHandles[kBatch];
  double batchCosts[kBatch];
  int32_t batchDecisions[kBatch];
};

// What `acquire` reads and writes: the attachment's number, handle, cost; the decision. One for all tables of a
// thread, and so is the function: a call site that sees several functions costs twice as much.
struct Ask {
  double table, handle, cost, decision;
};

struct Attachment {
  std::shared_ptr<Region> region;  // reset on close
  // Once closed it lives as long as JavaScript can see it, and so as long as a call can come: a process that opens and
  // closes tables all its life must not keep the frames of all.
  std::shared_ptr<Frame> owned = std::make_shared<Frame>();
  Frame* const frame = owned.get();
  double* const fields = frame->fields;
  PlainTable table;
  RegionClock clock{};
  double unitsPerToken = 1;
  double largestCost = 0;  // tokens; what cannot be represented in units can never be admitted
  uint32_t seat = kSeats;  // taken when somebody waits for the first time
  bool holdsLine = true;   // newcomers may not pass those who wait
  std::vector<Counters> previous;
  std::vector<uint32_t> previousGeneration;

  bool isLarge = false;
  bool ready = false;  // open, and has asked for a lane

  bool open() const noexcept { return region != nullptr; }

  // Threads that only watch never ask for a lane.
  [[gnu::noinline]] bool prepare() noexcept {
    if (!open()) return false;
    table.claimLane(clock());
    return ready = true;
  }

  void close() noexcept {
    if (!open()) return;
    if (seat < kSeats) table.leaveSeat(seat);
    seat = kSeats;
    table.releaseLane(clock());
    table.leaveRole();
    region->leave();
    table = PlainTable();
    region.reset();
    owned.reset();
    ready = false;
    previous = {};
    previousGeneration = {};
  }
};

// Ends with the thread, however it ends: what it held on lease comes back.
struct Addon {
  std::vector<std::unique_ptr<Attachment>> attachments;
  std::shared_ptr<Ask> ask = std::make_shared<Ask>();
  Ask* const asked = ask.get();
  // Whom the last request went to, because the next one mostly goes there too, and nobody has to wait for the look-up.
  double lastNumber = -1;
  Attachment* last = nullptr;
  bool lastIsLarge = false;
  ~Addon();
};

// A whole number as an integer. Anything else, and what is negative or too large, becomes 0 or more than 2^62.
FORETOKEN_INLINE uint64_t wholeOf(double v) noexcept {
#if defined(__SSE2__)
  // Defined for any number here: what does not fit becomes -2^63.
  const int64_t whole = _mm_cvttsd_si64(_mm_set_sd(v));
#else
  if (!(v > -9e18 && v < 9e18)) return ~uint64_t{0};
  const auto whole = static_cast<int64_t>(v);
#endif
  // Something was cut off; of a negative number it does not matter.
  if (static_cast<double>(whole) < v) [[unlikely]] return 0;
  return static_cast<uint64_t>(whole);
}

inline bool slotOf(double number, Slot& slot) noexcept {
  const uint64_t handle = wholeOf(number);
  slot = {static_cast<uint32_t>(handle & kIndexMask), static_cast<uint32_t>(handle >> kIndexBits)};
  return handle != 0 && handle <= kLargestHandle;
}

// Amounts, rates and durations; false for NaN. Anything else is refused before it reaches a cast or the table.
inline bool isAmount(double v) noexcept { return v >= 0 && v <= 9e18; }

inline double numberOf(Slot slot) noexcept { return static_cast<double>(handleOf(slot)); }

}  // namespace foretoken
