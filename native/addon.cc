// The addon: one attachment per table and thread. TypeScript validates values; here only what could harm
// memory is checked again. Only this file knows Node-API.
//
// The hot functions take no arguments: handle and cost lie in a frame both sides have mapped, the decision
// comes back in it. Unpacking two arguments costs as much as the decision itself.
#include <napi.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "directory.h"
#include "named.h"
#include "process.h"

namespace foretoken {
namespace {

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
constexpr uint32_t kLargeFrom = 1 << 13;  // targets whose buckets do not lie in the cache, so that fetching them ahead pays
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
  ~Addon();
};

// The addon's data of the environment this thread was last called from: a thread has one environment as a rule, and asking
// Node takes longer. With the C library of GNU it lies at an offset known when the addon is loaded; a call to find it would
// take longer than what it saves.
#if defined(__GLIBC__)
[[gnu::tls_model("initial-exec")]]
#endif
thread_local struct {
  napi_env env;
  Addon* addon;
} lastCalled;

Addon::~Addon() {
  if (lastCalled.addon == this) lastCalled = {};
  for (auto& a : attachments) a->close();
}

FORETOKEN_INLINE Addon& addonOf(napi_env env, napi_callback_info info) noexcept {
  if (lastCalled.env != env) [[unlikely]] {
    void* data = nullptr;
    napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
    lastCalled = {env, static_cast<Addon*>(data)};
  }
  return *lastCalled.addon;
}

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

bool slotOf(double number, Slot& slot) noexcept {
  const uint64_t handle = wholeOf(number);
  slot = {static_cast<uint32_t>(handle & kIndexMask), static_cast<uint32_t>(handle >> kIndexBits)};
  return handle != 0 && handle <= kLargestHandle;
}

// Amounts, rates and durations; false for NaN. Anything else is refused before it reaches a cast or the table.
bool isAmount(double v) noexcept { return v >= 0 && v <= 9e18; }

double numberOf(Slot slot) noexcept { return static_cast<double>(handleOf(slot)); }

// The cost in units; 0 when it is none. Whole numbers of tokens, the common case, need no rounding up.
inline uint64_t costOf(const Attachment& a, double tokens) noexcept {
  if (!(tokens > 0 && tokens < a.largestCost)) return 0;
  const double exact = tokens * a.unitsPerToken;
  const auto units = static_cast<uint64_t>(exact);
  return units + (static_cast<double>(units) < exact ? 1 : 0);
}

[[gnu::noinline]] int32_t decideAny(Attachment& a, double handle, double tokens, uint64_t nowNs, bool inLine) noexcept {
  Slot slot{};
  if (!slotOf(handle, slot)) return kBadHandle;
  const uint64_t cost = costOf(a, tokens);
  if (cost == 0) return tokens >= a.largestCost && std::isfinite(tokens) ? a.table.acquireBeyond(slot) : kBadCost;
  return a.table.acquireAny(slot, cost, nowNs, inLine);
}

// A cost that is no whole number of units is not plain, and neither is what is none.
template <class Time>
FORETOKEN_INLINE bool decidePlain(PlainTable& table, double unitsPerToken, const Time& time, uint64_t handle, double tokens) noexcept {
  return table.acquirePlain(time, handle, wholeOf(tokens * unitsPerToken));
}

Attachment* attachmentOf(napi_env env, napi_callback_info info) noexcept {
  void* data = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  return static_cast<Attachment*>(data);
}

napi_value acquireHot(napi_env env, napi_callback_info info) noexcept {
  // First of all: until it has been read the processor goes on with what does not need it.
  const uint64_t ticks = readTsc();
  Addon& addon = addonOf(env, info);
  Ask& ask = *addon.asked;
  if (ask.table != addon.lastNumber) [[unlikely]] {
    // Written by our own TypeScript, yet it is an index. The comparison is also false for NaN.
    if (!(ask.table >= 0 && ask.table < static_cast<double>(addon.attachments.size()))) {
      ask.decision = kClosed;
      return nullptr;
    }
    addon.lastNumber = ask.table;
    addon.last = addon.attachments[static_cast<size_t>(ask.table)].get();
  }
  Attachment& a = *addon.last;
  if (!a.ready && !a.prepare()) {
    ask.decision = kClosed;
    return nullptr;
  }
  const uint64_t handle = wholeOf(ask.handle);
  if (a.isLarge) a.table.prefetch(handle & kIndexMask);
  const uint64_t now = a.clock.at(ticks);
  ask.decision = decidePlain(a.table, a.unitsPerToken, PlainTable::Instant{now}, handle, ask.cost) ? kOwn : decideAny(a, ask.handle, ask.cost, now, false);
  return nullptr;
}

// For one who will wait if it has to: those who wait are not passed, and a denial is not counted.
napi_value acquireOrWaitHot(napi_env env, napi_callback_info info) noexcept {
  Attachment& a = *attachmentOf(env, info);
  double* f = a.fields;
  Slot slot{};
  const uint64_t now = a.ready || a.prepare() ? a.clock() : 0;
  if (!a.open()) f[kDecision] = kClosed;
  else if (slotOf(f[kHandle], slot) && a.table.isLive(slot) && a.table.isLineHeld(slot.index, now)) f[kDecision] = kDenied;
  else f[kDecision] = decideAny(a, f[kHandle], f[kCost], now, true);
  return nullptr;
}

uint64_t ticketIn(const Frame& frame) noexcept {
  uint64_t ticket = 0;
  std::memcpy(&ticket, &frame.fields[kTicket], sizeof ticket);
  return ticket;
}

// Slot and cost of a request in the frame that would wait; kDenied, or why it is no request.
int32_t waitRefusal(Attachment& a, Slot& slot, uint64_t& cost) noexcept {
  const double* f = a.fields;
  if (!a.open()) return kClosed;
  if (!slotOf(f[kHandle], slot) || !a.table.isLive(slot)) return kBadHandle;
  cost = costOf(a, f[kCost]);
  if (cost > 0) return kDenied;
  return f[kCost] >= a.largestCost ? kTooLarge : kBadCost;
}

// Frame: handle, cost. Back: kDenied, or why it is no request.
napi_value turnAwayHot(napi_env env, napi_callback_info info) noexcept {
  Attachment& a = *attachmentOf(env, info);
  double* f = a.fields;
  Slot slot{};
  uint64_t cost = 0;
  const int32_t refusal = waitRefusal(a, slot, cost);
  if (refusal == kDenied) a.table.turnAway(slot, cost);
  f[kDecision] = refusal;
  return nullptr;
}

// Frame: cost in tokens. Back: decision, kOwn or why there is no place; ticket as 64 bits.
napi_value joinLineHot(napi_env env, napi_callback_info info) noexcept {
  Attachment& a = *attachmentOf(env, info);
  double* f = a.fields;
  Slot slot{};
  uint64_t cost = 0;
  const int32_t refusal = waitRefusal(a, slot, cost);
  f[kDecision] = refusal;
  if (refusal != kDenied) return nullptr;
  if (a.seat == kSeats) a.seat = a.table.takeSeat();
  if (a.seat == kSeats) {
    f[kDecision] = kNoSeat;
    a.table.turnAway(slot, cost);
    return nullptr;
  }
  f[kDecision] = kOwn;
  a.table.showLife(a.seat, a.clock() + kHoldNs);
  const uint64_t ticket = a.table.joinLine(slot, cost);
  std::memcpy(&f[kTicket], &ticket, sizeof ticket);
  return nullptr;
}

// Frame: handle, cost and ticket of the first of this thread. Back: decision; waitMs until another try is worth it;
// level is what those before it want, tokens.
napi_value acquireInLineHot(napi_env env, napi_callback_info info) noexcept {
  Attachment& a = *attachmentOf(env, info);
  double* f = a.fields;
  Slot slot{};
  if (!a.open()) f[kDecision] = kClosed;
  else if (!slotOf(f[kHandle], slot)) f[kDecision] = kBadHandle;
  else if (const uint64_t cost = costOf(a, f[kCost]); cost == 0 || a.seat == kSeats) f[kDecision] = kBadCost;
  else {
    const uint64_t now = a.clock();
    a.table.showLife(a.seat, now + kHoldNs);
    uint64_t ahead = 0;
    const int32_t decision = a.table.acquireInLine(slot, a.seat, ticketIn(*a.frame), cost, now, a.holdsLine ? now + kHoldNs : 0, ahead);
    f[kDecision] = decision;
    f[kLevel] = static_cast<double>(ahead) / a.unitsPerToken;
    if (decision > 0 || decision == kBadHandle) return nullptr;
    if (cost > a.table.largestAdmissible(slot, now)) f[kDecision] = kTooLarge;
    Peek p{};
    a.table.peek(slot, cost, now, p);
    f[kWaitMs] = p.waitNs == UINT64_MAX ? INFINITY : static_cast<double>(p.waitNs) / 1e6;
  }
  return nullptr;
}

// Frame: handle, which may be stale by now.
napi_value leaveLineHot(napi_env env, napi_callback_info info) noexcept {
  Attachment& a = *attachmentOf(env, info);
  Slot slot{};
  if (a.open() && a.seat < kSeats && slotOf(a.frame->fields[kHandle], slot) && slot.index < a.table.slots())
    a.table.leaveLine(slot.index, a.seat, a.clock());
  return nullptr;
}

// A chunk is what a thread asks of a target in this time, if that is worth it.
constexpr double kLeaseMs = 5, kLeaseRequests = 8;

// Frame: held, left and served are what the last lease came to; level is what was asked since nowMs, region time; cost
// is the last request's. All in tokens. Back: the decision, level is what is on lease from now on, epoch and
// promise for how long, nowMs the region's time.
napi_value leaseHot(napi_env env, napi_callback_info info) noexcept {
  Attachment& a = *attachmentOf(env, info);
  double* f = a.fields;
  const double asked = f[kLevel], sinceMs = f[kNowMs];
  f[kLevel] = 0;
  Slot slot{};
  if (!a.ready && !a.prepare()) {
    f[kDecision] = kClosed;
    return nullptr;
  }
  const uint64_t now = a.clock();
  f[kNowMs] = static_cast<double>(now) / 1e6;
  if (!slotOf(f[kHandle], slot)) {
    f[kDecision] = kBadHandle;
    return nullptr;
  }
  double want = asked > 0 && sinceMs > 0 && f[kNowMs] > sinceMs ? asked / (f[kNowMs] - sinceMs) * kLeaseMs : 0;
  const double least = kLeaseRequests * f[kCost];
  if (!(want >= least)) want = 0;
  const auto units = [&](double tokens) { return isAmount(tokens) ? a.region->units(tokens) : 0; };
  const PlainTable::Holding held{units(f[kHeld]), units(f[kLeft]), static_cast<uint64_t>(isAmount(f[kServed]) ? f[kServed] : 0)};
  PlainTable::Lease lease{};
  const int32_t decision = a.table.lease(slot, held, units(want), units(least), now, lease);
  f[kDecision] = decision;
  f[kLevel] = static_cast<double>(lease.units) / a.unitsPerToken;
  f[kEpoch] = lease.epoch;
  f[kPromise] = lease.promise;
  return nullptr;
}

// A batch on its way. Its parts lie in memory: what the loop itself needs fills the registers.
struct Batch {
  Attachment& a;
  PlainTable table;
  double unitsPerToken;
  PlainTable::Moment moment;
  uint64_t count;
  uint64_t refused = 0;
};

// One that is not plain. What holds at this moment may have changed by it.
[[gnu::noinline]] void decideInBatch(Batch& b, Frame& f, uint64_t i) noexcept {
  f.batchDecisions[i] = decideAny(b.a, f.batchHandles[i], f.batchCosts[i], b.moment.nowNs, false);
  b.refused += f.batchDecisions[i] <= 0;
  b.moment = b.a.table.momentAt(b.moment.nowNs);
}

// Each with the memory of `kAhead` others on its way.
template <uint64_t kAhead>
[[gnu::noinline]] void decideBatch(Batch& b, Frame& f) noexcept {
  const auto announce = [&](uint64_t i) { b.table.prefetch(wholeOf(f.batchHandles[i]) & kIndexMask); };
  for (uint64_t i = 0; i < std::min(b.count, kAhead); ++i) announce(i);
  for (uint64_t i = 0; i < b.count; ++i) {
    if (kAhead && i + kAhead < b.count) announce(i + kAhead);
    if (decidePlain(b.table, b.unitsPerToken, b.moment, wholeOf(f.batchHandles[i]), f.batchCosts[i])) [[likely]] f.batchDecisions[i] = kOwn;
    else decideInBatch(b, f, i);
  }
}

// Frame: cost holds the number of requests; the decision comes back as the number admitted.
napi_value acquireBatchHot(napi_env env, napi_callback_info info) noexcept {
  Attachment& a = *attachmentOf(env, info);
  Frame& f = *a.frame;
  if (!a.ready && !a.prepare()) {
    f.fields[kDecision] = kClosed;
    return nullptr;
  }
  const double wanted = f.fields[kCost];
  const uint64_t count = wanted >= 0 && wanted <= kBatch ? static_cast<uint64_t>(wanted) : 0;
  Batch batch{a, a.table, a.unitsPerToken, a.table.momentAt(a.clock()), count};
  if (a.isLarge) decideBatch<16>(batch, f);
  else decideBatch<0>(batch, f);
  f.fields[kDecision] = static_cast<double>(count - batch.refused);
  return nullptr;
}

napi_value completeHot(napi_env env, napi_callback_info info) noexcept {
  Attachment& a = *attachmentOf(env, info);
  double* f = a.fields;
  Slot slot{};
  const auto whole = [](double v) { return v > 0 && v < 9.3e18 ? static_cast<uint64_t>(v) : 0; };
  if (!a.open()) f[kDecision] = kClosed;
  else if (!slotOf(f[kHandle], slot)) f[kDecision] = kBadHandle;
  else f[kDecision] = a.table.complete(slot, whole(f[kRead]), whole(f[kWrite]), whole(f[kDuration]));
  return nullptr;
}

napi_value peekHot(napi_env env, napi_callback_info info) noexcept {
  Attachment& a = *attachmentOf(env, info);
  double* f = a.fields;
  if (!a.open()) {
    f[kDecision] = kClosed;
    return nullptr;
  }
  Slot slot{kReservoir, 0};
  if (f[kHandle] != 0 && (!slotOf(f[kHandle], slot) || slot.index == kReservoir)) {
    f[kDecision] = kBadHandle;
    return nullptr;
  }
  if (!(f[kCost] >= 0 && std::isfinite(f[kCost]))) {
    f[kDecision] = kBadCost;
    return nullptr;
  }
  // A cost beyond all units is one that no bucket will ever hold.
  const uint64_t cost = f[kCost] < a.largestCost ? costOf(a, f[kCost]) : static_cast<uint64_t>(kLevelLimit) * 2;
  const uint64_t now = a.clock();
  Peek p{};
  const int32_t found = a.table.peek(slot, cost, now, p);
  f[kDecision] = found;
  if (found != kOwn) return nullptr;
  if (f[kCost] >= a.largestCost || cost > a.table.largestAdmissible(slot, now)) f[kDecision] = kTooLarge;
  f[kLevel] = static_cast<double>(p.level) / a.unitsPerToken;
  f[kRate] = a.region->ratePerSec(p.rate);
  f[kBurst] = static_cast<double>(p.burst) / a.unitsPerToken;
  f[kDeposit] = static_cast<double>(p.deposit) / a.unitsPerToken;
  f[kWaitMs] = p.waitNs == UINT64_MAX ? INFINITY : static_cast<double>(p.waitNs) / 1e6;
  return nullptr;
}

// Frame: cost in tokens. Back: decision; level holds the tokens really charged (chargeHot).
napi_value refundHot(napi_env env, napi_callback_info info) noexcept {
  Attachment& a = *attachmentOf(env, info);
  double* f = a.fields;
  Slot slot{};
  if (!a.open()) f[kDecision] = kClosed;
  else if (!slotOf(f[kHandle], slot)) f[kDecision] = kBadHandle;
  else if (const uint64_t units = costOf(a, f[kCost]); units == 0) f[kDecision] = kBadCost;
  else f[kDecision] = a.table.refund(slot, units, a.clock());
  return nullptr;
}

napi_value chargeHot(napi_env env, napi_callback_info info) noexcept {
  Attachment& a = *attachmentOf(env, info);
  double* f = a.fields;
  Slot slot{};
  f[kLevel] = 0;
  if (!a.open()) f[kDecision] = kClosed;
  else if (!slotOf(f[kHandle], slot) || !a.table.isLive(slot)) f[kDecision] = kBadHandle;
  else {
    const double tokens = std::min(f[kCost], a.largestCost * 0.5);
    const uint64_t units = std::isfinite(f[kCost]) ? costOf(a, tokens) : 0;
    f[kDecision] = units == 0 ? kBadCost : kOwn;
    if (units) f[kLevel] = static_cast<double>(a.table.charge(slot, units, a.clock())) / a.unitsPerToken;
  }
  return nullptr;
}

// ---- cold functions ----------------------------------------------------------------------------------

Attachment& self(const Napi::CallbackInfo& info) { return *static_cast<Attachment*>(info.Data()); }

double number(const Napi::CallbackInfo& info, size_t i) {
  return i < info.Length() && info[i].IsNumber() ? info[i].As<Napi::Number>().DoubleValue() : NAN;
}

// Of what a thread that is being terminated reads, every kind is asked for first: such a value may be empty, and to
// convert an empty one ends the process.
bool isTrue(const Napi::Value& value) { return value.IsBoolean() && value.As<Napi::Boolean>().Value(); }
bool isTrue(const Napi::CallbackInfo& info, size_t at) { return info.Length() > at && isTrue(info[at]); }

// Whole and within the bounds, or 0, which no caller allows.
uint32_t countOf(const Napi::CallbackInfo& info, size_t i, uint32_t most) {
  const double v = number(info, i);
  return v >= 1 && v <= most && v == std::floor(v) ? static_cast<uint32_t>(v) : 0;
}

bool areAmounts(const Napi::CallbackInfo& info, std::initializer_list<size_t> positions) {
  return std::all_of(positions.begin(), positions.end(), [&](size_t i) { return isAmount(number(info, i)); });
}

Napi::Value status(const Napi::CallbackInfo& info, int32_t code) { return Napi::Number::New(info.Env(), code); }

// Doubles of a Float64Array argument, or null when it is none or shorter than `least`.
double* doubles(const Napi::CallbackInfo& info, size_t i, size_t least) {
  if (i >= info.Length() || !info[i].IsTypedArray()) return nullptr;
  const auto array = info[i].As<Napi::TypedArray>();
  if (array.TypedArrayType() != napi_float64_array || array.ElementLength() < least) return nullptr;
  return info[i].As<Napi::Float64Array>().Data();
}

// The same of a Uint8Array argument.
uint8_t* bytes(const Napi::CallbackInfo& info, size_t i, size_t least) {
  if (i >= info.Length() || !info[i].IsTypedArray()) return nullptr;
  const auto array = info[i].As<Napi::TypedArray>();
  if (array.TypedArrayType() != napi_uint8_array || array.ElementLength() < least) return nullptr;
  return info[i].As<Napi::Uint8Array>().Data();
}

// Returns the handle, or a negative status.
Napi::Value addTarget(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  if (!a.open()) return status(info, kClosed);
  Slot slot{};
  const Status s = a.table.addTarget(number(info, 0) == 1 ? kMayBorrow : 0, slot, a.clock);
  if (s != kOk) return status(info, s);
  return Napi::Number::New(info.Env(), numberOf(slot));
}

Napi::Value removeTarget(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  Slot slot{};
  if (!a.open()) return status(info, kClosed);
  if (!slotOf(number(info, 0), slot)) return status(info, kStale);
  return status(info, a.region->isNamed() ? Directory(*a.region).remove(slot, a.clock) : a.table.removeTarget(slot, a.clock));
}

Napi::Value setLimit(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  Slot slot{};
  if (!a.open()) return status(info, kClosed);
  if (!slotOf(number(info, 0), slot)) return status(info, kStale);
  if (!areAmounts(info, {1, 2})) return status(info, kInvalid);
  return status(info, a.table.setLimit(slot, a.region->rateUnits(number(info, 1)), a.region->units(number(info, 2)), a.clock));
}

Napi::Value setFallback(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  Slot slot{};
  if (!a.open()) return status(info, kClosed);
  if (!slotOf(number(info, 0), slot)) return status(info, kStale);
  if (!areAmounts(info, {1, 2})) return status(info, kInvalid);
  return status(info, a.table.setFallback(slot, a.region->rateUnits(number(info, 1)), a.region->units(number(info, 2)), a.clock));
}

// (handle)
Napi::Value endow(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  Slot slot{};
  if (!a.open()) return status(info, kClosed);
  if (!slotOf(number(info, 0), slot)) return status(info, kStale);
  return status(info, a.table.endow(slot, a.clock));
}

// Rate and burst of each slot; false if one of those that count, from `from` on, is no amount.
bool sharesOf(const Attachment& a, const double* pairs, uint32_t from, std::vector<PlainTable::Share>& shares) {
  for (uint32_t i = from; i < shares.size(); ++i) {
    const double rate = pairs[2 * i], burst = pairs[2 * i + 1];
    if (!isAmount(rate) || !isAmount(burst)) return false;
    shares[i] = {encode(a.region->rateUnits(rate)), encode(a.region->units(burst))};
  }
  return true;
}

// (pairs Float64Array [slot][rate, burst], count, reservoirTakesRest)
Napi::Value allocate(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  if (!a.open()) return status(info, kClosed);
  const uint32_t count = countOf(info, 1, a.table.slots());
  const double* pairs = doubles(info, 0, static_cast<size_t>(count) * 2);
  if (count == 0 || !pairs) return status(info, kInvalid);
  const bool rest = isTrue(info, 2);
  std::vector<PlainTable::Share> shares(count);
  if (!sharesOf(a, pairs, rest ? 1 : 0, shares)) return status(info, kInvalid);
  return status(info, a.table.allocate(shares.data(), count, rest, a.clock));
}

Napi::Value setFallbacks(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  if (!a.open()) return status(info, kClosed);
  const uint32_t count = countOf(info, 1, a.table.slots());
  const double* pairs = doubles(info, 0, static_cast<size_t>(count) * 2);
  if (count == 0 || !pairs) return status(info, kInvalid);
  std::vector<PlainTable::Share> shares(count);
  if (!sharesOf(a, pairs, 1, shares)) return status(info, kInvalid);
  return status(info, a.table.setFallbacks(shares.data(), count, a.clock));
}

// Of a duration that is an amount.
uint64_t afterMs(const Attachment& a, double ms) { return a.clock() + static_cast<uint64_t>(std::min(ms * 1e6, 9e18)); }

// (handle, tokens, forMs): tokens moved
Napi::Value deposit(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  Slot slot{};
  if (!a.open() || !slotOf(number(info, 0), slot) || !areAmounts(info, {1, 2})) return Napi::Number::New(info.Env(), 0);
  const uint64_t moved = a.table.deposit(slot, a.region->units(number(info, 1)), afterMs(a, number(info, 2)), a.clock);
  return Napi::Number::New(info.Env(), a.region->tokens(static_cast<double>(moved)));
}

Napi::Value withdraw(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  Slot slot{};
  if (!a.open() || !slotOf(number(info, 0), slot)) return Napi::Number::New(info.Env(), 0);
  return Napi::Number::New(info.Env(), a.region->tokens(static_cast<double>(a.table.withdraw(slot, a.clock))));
}

Napi::Value reclaimExpired(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  return Napi::Number::New(info.Env(), a.open() ? a.region->tokens(static_cast<double>(a.table.reclaimExpired(a.clock))) : 0);
}

// Out: [returned, reservoir level, all levels], tokens.
Napi::Value tick(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  double* out = doubles(info, 0, 3);
  if (!a.open()) return status(info, kClosed);
  if (!out) return status(info, kInvalid);
  // On a virtual clock one thread does everything, so nothing is in flight.
  const uint64_t threads = a.region->header().clockKind == ClockKind::kVirtual ? 1 : a.region->attachedThreads();
  a.table.reapLanes(a.clock());
  const TickResult r = a.table.tick(static_cast<uint32_t>(std::max<uint64_t>(threads, 1) - 1), a.clock);
  if (r.status != kOk) return status(info, r.status);
  out[0] = a.region->tokens(static_cast<double>(r.returned));
  out[1] = a.region->tokens(static_cast<double>(r.reservoir));
  out[2] = a.region->tokens(static_cast<double>(r.levels));
  return status(info, kOk);
}

// (shares Float64Array [slot], count, stock, mayTakeStock Uint8Array [slot]), tokens
Napi::Value setBorrowShares(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  if (!a.open()) return status(info, kClosed);
  const uint32_t count = countOf(info, 1, a.table.highWater());
  const double* shares = doubles(info, 0, count);
  const double stock = number(info, 2);
  const uint8_t* mayTakeStock = bytes(info, 3, count);
  if (count == 0 || !shares || (stock != 0 && !mayTakeStock) || !isAmount(stock) || !std::all_of(shares + 1, shares + count, isAmount)) return status(info, kInvalid);
  return status(info, a.table.setBorrowShares(
                          count, a.region->units(stock), [&](uint32_t i) { return static_cast<int64_t>(a.region->units(shares[i])); },
                          [&](uint32_t i) { return mayTakeStock && mayTakeStock[i] != 0; }));
}

Napi::Value setMayBorrow(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  Slot slot{};
  if (!a.open()) return status(info, kClosed);
  if (!slotOf(number(info, 0), slot)) return status(info, kStale);
  return status(info, a.table.setMayBorrow(slot, number(info, 1) == 1));
}

// (handle, mode)
Napi::Value setMode(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  Slot slot{};
  if (!a.open()) return status(info, kClosed);
  if (!slotOf(number(info, 0), slot)) return status(info, kStale);
  const double mode = number(info, 1);
  for (const Mode m : {Mode::kEnforce, Mode::kShadow, Mode::kOff})
    if (mode == static_cast<double>(m)) return status(info, a.table.setMode(slot, m, a.clock()));
  return status(info, kInvalid);
}

// (handle): the mode, or a negative status
Napi::Value modeOf(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  Slot slot{};
  if (!a.open()) return status(info, kClosed);
  if (!slotOf(number(info, 0), slot) || !a.table.isLive(slot)) return status(info, kStale);
  return status(info, static_cast<int32_t>(a.table.modeOf(slot.index)));
}

// (forMs): 0 extended, 1 resumed after a lapse, negative status
Napi::Value extendValidity(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  if (!a.open()) return status(info, kClosed);
  if (!areAmounts(info, {0})) return status(info, kInvalid);
  bool resumed = false;
  const Status s = a.table.extendValidity(afterMs(a, number(info, 0)), resumed, a.clock);
  return status(info, s == kOk ? (resumed ? 1 : 0) : s);
}

Napi::Value setResource(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  if (!a.open()) return status(info, kClosed);
  if (!areAmounts(info, {0, 1})) return status(info, kInvalid);
  return status(info, a.table.setResource(a.region->rateUnits(number(info, 0)), a.region->units(number(info, 1)), a.clock));
}

// Says that this thread's tickets are still wanted. Returns how many changes the table has seen.
Napi::Value showLife(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  if (!a.open()) return status(info, kClosed);
  return Napi::Number::New(info.Env(), static_cast<double>(a.table.showLife(a.seat, a.clock() + kHoldNs)));
}

Napi::Value setHoldsLine(const Napi::CallbackInfo& info) {
  self(info).holdsLine = number(info, 0) == 1;
  return info.Env().Undefined();
}

// ---- the controller role ----

// (forMs): the term, 0 if the role is not to be had, or a negative status.
Napi::Value takeRole(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  if (!a.open()) return status(info, kClosed);
  if (!areAmounts(info, {0})) return status(info, kInvalid);
  return Napi::Number::New(info.Env(), static_cast<double>(a.table.takeRole(static_cast<uint64_t>(number(info, 0) * 1e6), a.clock)));
}

Napi::Value renewRole(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  if (!a.open()) return status(info, kClosed);
  if (!areAmounts(info, {0})) return status(info, kInvalid);
  return status(info, a.table.renewRole(static_cast<uint64_t>(number(info, 0) * 1e6), a.clock));
}

Napi::Value leaveRole(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  if (a.open()) a.table.leaveRole();
  return info.Env().Undefined();
}

// (out Float64Array): process that holds the role, 0 if none; term; repairs the table has seen; 1 if a promise holds.
Napi::Value roleState(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  double* out = doubles(info, 0, 4);
  if (!a.open()) return status(info, kClosed);
  if (!out) return status(info, kInvalid);
  const PlainHeader& h = a.region->header();
  const uint64_t now = a.clock(), holder = h.controllerPid.load(std::memory_order_acquire);
  const bool held = holder && now < h.controllerUntilNs.load(std::memory_order_acquire) && !isProcessGone(holder);
  const uint64_t valid = h.validUntil.load(std::memory_order_acquire);
  out[0] = held ? pidOf(holder) : 0;
  out[1] = static_cast<double>(h.controllerTerm.load(std::memory_order_acquire));
  out[2] = static_cast<double>(h.repairs.load(std::memory_order_relaxed));
  out[3] = !(valid & 1) && (valid >> 1) >= now;
  return status(info, kOk);
}

// ---- targets by name, in named regions ----

bool textOf(const Napi::CallbackInfo& info, size_t i, std::string& text) {
  if (i >= info.Length() || !info[i].IsString()) return false;
  text = info[i].As<Napi::String>().Utf8Value();
  return !text.empty() && text.size() <= kLongestName;
}

Settings settingsAt(const double* values) { return {values[0], values[1], values[2], values[3], values[4]}; }

// (name, mayBorrow, settings Float64Array): the handle. settings[5] comes back as 1 if there was one already.
Napi::Value putTarget(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  if (!a.open()) return status(info, kClosed);
  std::string name;
  double* settings = doubles(info, 2, 6);
  if (!a.region->isNamed() || !textOf(info, 0, name) || !settings) return status(info, kInvalid);
  Slot slot{};
  bool existed = false;
  const Status s = Directory(*a.region).put(name, number(info, 1) == 1 ? kMayBorrow : 0, settingsAt(settings), slot, existed, a.clock);
  if (s != kOk) return status(info, s);
  settings[5] = existed;
  return Napi::Number::New(info.Env(), numberOf(slot));
}

// (name, settings Float64Array): the handle; its settings come back.
Napi::Value lookUpTarget(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  if (!a.open()) return status(info, kClosed);
  std::string name;
  double* out = doubles(info, 1, 5);
  if (!a.region->isNamed() || !textOf(info, 0, name) || !out) return status(info, kStale);
  Slot slot{};
  Settings settings{};
  const Status s = Directory(*a.region).lookUp(name, slot, settings);
  if (s != kOk) return status(info, s);
  std::memcpy(out, &settings, sizeof settings);
  return Napi::Number::New(info.Env(), numberOf(slot));
}

// (handle, settings Float64Array)
Napi::Value describeTarget(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  if (!a.open()) return status(info, kClosed);
  Slot slot{};
  const double* settings = doubles(info, 1, 5);
  if (!a.region->isNamed() || !settings) return status(info, kInvalid);
  if (!slotOf(number(info, 0), slot)) return status(info, kStale);
  return status(info, Directory(*a.region).set(slot, settingsAt(settings)));
}

Napi::Value rosterVersion(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  const bool named = a.open() && a.region->isNamed();
  return Napi::Number::New(info.Env(), named ? static_cast<double>(Directory(*a.region).version()) : 0);
}

// (version): what has changed since, as [slot, handle, name, reservation, weight, limit, limitBurst,
// throttlingCost, …], handle 0 and
// name '' where nobody is any more. Or a negative status.
Napi::Value roster(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  if (!a.open()) return status(info, kClosed);
  if (!a.region->isNamed() || !areAmounts(info, {0})) return status(info, kInvalid);
  const auto env = info.Env();
  struct Row {
    Slot slot;
    std::string name;
    Settings settings;
  };
  std::vector<Row> rows;
  const Status s = Directory(*a.region).changedSince(static_cast<uint64_t>(number(info, 0)), [&](Slot slot, std::string_view name, const Settings& settings) {
    rows.push_back({slot, std::string(name), settings});
  });
  if (s != kOk) return status(info, s);
  auto array = Napi::Array::New(env, rows.size() * 8);
  uint32_t at = 0;
  for (const Row& row : rows) {
    array.Set(at++, Napi::Number::New(env, row.slot.index));
    array.Set(at++, Napi::Number::New(env, row.name.empty() ? 0 : numberOf(row.slot)));
    array.Set(at++, Napi::String::New(env, row.name));
    for (const double value : {row.settings.reservation, row.settings.weight, row.settings.limit, row.settings.limitBurst, row.settings.throttlingCost})
      array.Set(at++, Napi::Number::New(env, value));
  }
  return array;
}

// Rows of so many columns that there are and a Float64Array argument has room for; null without room for the reservoir's.
// Targets added since it was made have their rows next time.
double* rowsOf(const Napi::CallbackInfo& info, size_t i, uint32_t columns, uint32_t& rows) {
  double* out = doubles(info, i, columns);
  if (out) rows = static_cast<uint32_t>(std::min<size_t>(rows, info[i].As<Napi::TypedArray>().ElementLength() / columns));
  return out;
}

// Differences since this attachment collected last, one row per slot: see CollectColumn. Returns the rows.
Napi::Value collect(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  if (!a.open()) return status(info, kClosed);
  uint32_t used = a.table.highWater();
  double* out = rowsOf(info, 0, kCollectColumns, used);
  if (!out) return status(info, kInvalid);
  if (a.previous.size() < used) {
    a.previous.resize(used);
    a.previousGeneration.resize(used);
  }
  const uint64_t nowNs = a.clock();
  for (uint32_t i = 0; i < used; ++i) {
    double* row = out + static_cast<size_t>(i) * kCollectColumns;
    uint64_t meta = a.table.metaOf(i);
    Counters now = a.table.counters(i);
    // A slot that changed hands in between is read again: its counters belong to one of the two.
    for (uint64_t seen; (seen = a.table.metaOf(i)) != meta; now = a.table.counters(i)) meta = seen;
    const auto generation = static_cast<uint32_t>(meta >> 32);
    Counters& last = a.previous[i];
    // A slot's counters start anew with a new target.
    if (a.previousGeneration[i] != generation) last = Counters{};
    a.previousGeneration[i] = generation;
    const auto tokens = [&](uint64_t from, uint64_t to) { return a.region->tokens(static_cast<double>(static_cast<int64_t>(to - from))); };
    // Denials fall when one who waited is admitted.
    const auto count = [](uint64_t from, uint64_t to) { return static_cast<double>(static_cast<int64_t>(to - from)); };
    row[kGeneration] = meta & kLive ? generation : 0;
    row[kAdmitted] = count(last.admitted, now.admitted);
    row[kDenials] = count(last.denied, now.denied);
    row[kPassed] = count(last.passed, now.passed);
    row[kPassedTokens] = tokens(last.passedTokens, now.passedTokens);
    row[kUnmetered] = count(last.unmetered, now.unmetered);
    row[kUnmeteredTokens] = tokens(last.unmeteredTokens, now.unmeteredTokens);
    // What passed is among the denials.
    row[kArrivals] = row[kAdmitted] + row[kDenials] + row[kUnmetered];
    row[kAdmittedTokens] = tokens(last.admittedTokens, now.admittedTokens);
    row[kDemandTokens] = row[kAdmittedTokens] + tokens(last.deniedTokens, now.deniedTokens) + row[kUnmeteredTokens];
    row[kBorrowedTokens] = tokens(last.borrowedTokens, now.borrowedTokens);
    row[kReadBytes] = count(last.readBytes, now.readBytes);
    row[kWriteBytes] = count(last.writeBytes, now.writeBytes);
    row[kCompletions] = count(last.completions, now.completions);
    row[kDurationNs] = count(last.durationNs, now.durationNs);
    row[kWaitingTokens] = a.region->tokens(static_cast<double>(a.table.tokensWaiting(i, nowNs)));
    last = now;
  }
  return Napi::Number::New(info.Env(), used);
}

// Running totals of one slot, in CollectColumn order; the reservoir's are all zero.
Napi::Value totals(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  Slot slot{};
  double* out = doubles(info, 1, kCollectColumns);
  if (!a.open()) return status(info, kClosed);
  if (!out || !slotOf(number(info, 0), slot) || !a.table.isLive(slot)) return status(info, kStale);
  const Counters c = a.table.counters(slot.index);
  out[kGeneration] = slot.generation;
  out[kAdmitted] = static_cast<double>(c.admitted);
  out[kDenials] = static_cast<double>(c.denied);
  out[kPassed] = static_cast<double>(c.passed);
  out[kPassedTokens] = a.region->tokens(static_cast<double>(c.passedTokens));
  out[kUnmetered] = static_cast<double>(c.unmetered);
  out[kUnmeteredTokens] = a.region->tokens(static_cast<double>(c.unmeteredTokens));
  out[kArrivals] = out[kAdmitted] + out[kDenials] + out[kUnmetered];
  out[kAdmittedTokens] = a.region->tokens(static_cast<double>(c.admittedTokens));
  out[kDemandTokens] = out[kAdmittedTokens] + a.region->tokens(static_cast<double>(c.deniedTokens)) + out[kUnmeteredTokens];
  out[kBorrowedTokens] = a.region->tokens(static_cast<double>(c.borrowedTokens));
  out[kReadBytes] = static_cast<double>(c.readBytes);
  out[kWriteBytes] = static_cast<double>(c.writeBytes);
  out[kCompletions] = static_cast<double>(c.completions);
  out[kDurationNs] = static_cast<double>(c.durationNs);
  out[kWaitingTokens] = a.region->tokens(static_cast<double>(a.table.tokensWaiting(slot.index, a.clock())));
  return status(info, kOk);
}

// One row per slot: see LevelColumn. Returns the rows.
Napi::Value levels(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  if (!a.open()) return status(info, kClosed);
  uint32_t used = a.table.highWater();
  double* out = rowsOf(info, 0, kLevelColumns, used);
  if (!out) return status(info, kInvalid);
  const uint64_t now = a.clock();
  for (uint32_t i = 0; i < used; ++i) {
    const LevelReading r = a.table.levelOf(i, now);
    double* row = out + static_cast<size_t>(i) * kLevelColumns;
    row[kLevelTokens] = a.region->tokens(static_cast<double>(r.level));
    row[kLevelRate] = a.region->ratePerSec(r.rate);
    row[kLevelBurst] = a.region->tokens(static_cast<double>(r.burst));
    row[kLevelDeposit] = a.region->tokens(static_cast<double>(r.deposit));
  }
  return Napi::Number::New(info.Env(), used);
}

// Out: sums of rates, bursts, fallback rates, fallback bursts; the resource's rate and burst; refunds dropped.
Napi::Value sums(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  double* out = doubles(info, 0, 7);
  if (!a.open()) return status(info, kClosed);
  if (!out) return status(info, kInvalid);
  uint64_t s[4];
  a.table.sums(s);
  const PlainHeader& h = a.region->header();
  out[0] = a.region->ratePerSec(s[0]);
  out[1] = a.region->tokens(static_cast<double>(s[1]));
  out[2] = a.region->ratePerSec(s[2]);
  out[3] = a.region->tokens(static_cast<double>(s[3]));
  out[4] = a.region->ratePerSec(h.resourceRate.load(std::memory_order_relaxed));
  out[5] = a.region->tokens(static_cast<double>(h.resourceBurst.load(std::memory_order_relaxed)));
  out[6] = a.region->tokens(static_cast<double>(h.refundsDropped.load(std::memory_order_relaxed)));
  return status(info, kOk);
}

Napi::Value setVirtualMs(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  if (!a.open()) return status(info, kClosed);
  const double ms = number(info, 0);
  if (a.region->header().clockKind != ClockKind::kVirtual || !(ms >= 0 && ms < 9e12)) return status(info, kInvalid);
  // Time that is set back stands still until it is reached again: what was admitted at a later time cannot be
  // taken back, so a rate that was moved at an earlier one would be had twice.
  auto& time = a.region->header().virtualNs;
  const auto ns = static_cast<uint64_t>(ms * 1e6);
  for (uint64_t seen = time.load(std::memory_order_relaxed); seen < ns && !time.compare_exchange_weak(seen, ns, std::memory_order_release, std::memory_order_relaxed);) {
  }
  return status(info, kOk);
}

Napi::Value nowMs(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  return Napi::Number::New(info.Env(), a.open() ? static_cast<double>(a.clock() - 1) / 1e6 : 0);
}

Napi::Value highWater(const Napi::CallbackInfo& info) {
  Attachment& a = self(info);
  return Napi::Number::New(info.Env(), a.open() ? a.table.highWater() : 0);
}

Napi::Value close(const Napi::CallbackInfo& info) {
  // Whoever still has a view of the words finds it empty: the memory goes with the last attachment.
  if (info.This().IsObject()) {
    const Napi::Value words = info.This().As<Napi::Object>().Get("words");
    if (words.IsArrayBuffer() && !words.As<Napi::ArrayBuffer>().IsDetached()) words.As<Napi::ArrayBuffer>().Detach();
  }
  self(info).close();
  return info.Env().Undefined();
}

template <class Owner>
Napi::ArrayBuffer wrap(Napi::Env env, void* data, size_t bytes, std::shared_ptr<Owner> owner) {
  auto* keep = new std::shared_ptr<Owner>(std::move(owner));
  return Napi::ArrayBuffer::New(env, data, bytes, [](Napi::Env, void*, std::shared_ptr<Owner>* kept) { delete kept; }, keep);
}

Napi::Value attachmentObject(Napi::Env env, std::shared_ptr<Region> region) {
  auto owned = std::make_unique<Attachment>();
  Attachment* a = owned.get();
  Addon& addon = *env.GetInstanceData<Addon>();
  const auto number = static_cast<double>(addon.attachments.size());
  addon.attachments.push_back(std::move(owned));
  a->region = region;
  a->table = region->table();
  a->clock = region->clock();
  a->unitsPerToken = region->unitsPerToken();
  a->isLarge = region->header().capacity >= kLargeFrom;
  a->largestCost = static_cast<double>(kLevelLimit) / a->unitsPerToken;
  region->enter();

  auto object = Napi::Object::New(env);
  const auto hot = [&](const char* name, napi_callback callback) {
    napi_value fn = nullptr;
    napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, a, &fn);
    object.Set(name, Napi::Value(env, fn));
  };
  hot("acquireOrWait", acquireOrWaitHot);
  hot("joinLine", joinLineHot);
  hot("turnAway", turnAwayHot);
  hot("acquireInLine", acquireInLineHot);
  hot("leaveLine", leaveLineHot);
  hot("acquireBatch", acquireBatchHot);
  hot("lease", leaseHot);
  hot("complete", completeHot);
  hot("peek", peekHot);
  hot("refund", refundHot);
  hot("charge", chargeHot);
  using Cold = Napi::Value (*)(const Napi::CallbackInfo&);
  const auto cold = [&](const char* name, Cold callback) { object.Set(name, Napi::Function::New(env, callback, name, a)); };
  cold("addTarget", addTarget);
  cold("removeTarget", removeTarget);
  cold("setLimit", setLimit);
  cold("setFallback", setFallback);
  cold("setFallbacks", setFallbacks);
  cold("endow", endow);
  cold("allocate", allocate);
  cold("deposit", deposit);
  cold("withdraw", withdraw);
  cold("reclaimExpired", reclaimExpired);
  cold("tick", tick);
  cold("setBorrowShares", setBorrowShares);
  cold("setMayBorrow", setMayBorrow);
  cold("setMode", setMode);
  cold("modeOf", modeOf);
  cold("extendValidity", extendValidity);
  cold("setResource", setResource);
  cold("showLife", showLife);
  cold("setHoldsLine", setHoldsLine);
  cold("takeRole", takeRole);
  cold("renewRole", renewRole);
  cold("leaveRole", leaveRole);
  cold("roleState", roleState);
  cold("putTarget", putTarget);
  cold("lookUpTarget", lookUpTarget);
  cold("describeTarget", describeTarget);
  cold("rosterVersion", rosterVersion);
  cold("roster", roster);
  cold("collect", collect);
  cold("totals", totals);
  cold("levels", levels);
  cold("sums", sums);
  cold("setVirtualMs", setVirtualMs);
  cold("nowMs", nowMs);
  cold("highWater", highWater);
  cold("close", close);
  object.Set("token", region->token());
  object.Set("capacity", Napi::Number::New(env, region->header().capacity));
  object.Set("number", Napi::Number::New(env, number));
  object.Set("unitsPerToken", Napi::Number::New(env, region->unitsPerToken()));
  object.Set("clock", region->header().clockKind == ClockKind::kTsc ? "tsc" : region->header().clockKind == ClockKind::kVirtual ? "virtual" : "monotonic");
  object.Set("named", Napi::Boolean::New(env, region->isNamed()));
  object.Set("virtual", Napi::Boolean::New(env, region->header().clockKind == ClockKind::kVirtual));
  Frame* frame = a->frame;
  std::memset(frame, 0, sizeof(Frame));
  object.Set("frame", wrap(env, frame->fields, sizeof frame->fields, a->owned));
  object.Set("batchHandles", wrap(env, frame->batchHandles, sizeof frame->batchHandles, a->owned));
  object.Set("batchCosts", wrap(env, frame->batchCosts, sizeof frame->batchCosts, a->owned));
  object.Set("batchDecisions", wrap(env, frame->batchDecisions, sizeof frame->batchDecisions, a->owned));
  // What a lease is checked against; never written from JavaScript.
  object.Set("words", Napi::ArrayBuffer::New(env, region->words(), region->wordsBytes(), [](Napi::Env, void*) {}));
  if (region->areaBytes()) object.Set("area", wrap(env, region->area(), region->areaBytes(), region));
  return object;
}

// What kept a region from being had: a number of Refusal, and the system's reason where it has one.
Napi::Value refusalObject(Napi::Env env, Refusal refusal) {
  const int error = errno;
  auto object = Napi::Object::New(env);
  object.Set("refusal", Napi::Number::New(env, static_cast<int>(refusal)));
  object.Set("reason", refusal == Refusal::kSystem ? std::strerror(error) : "");
  return object;
}

// ({capacity, rate, burst, virtual, areaBytes, name}) - validated by TypeScript; null when memory cannot be had, what
// refusalObject says when it is not to be had by that name.
Napi::Value createTable(const Napi::CallbackInfo& info) {
  const auto env = info.Env();
  if (info.Length() < 1 || !info[0].IsObject()) return env.Null();
  const auto o = info[0].As<Napi::Object>();
  const auto field = [&](const char* name) {
    const Napi::Value v = o.Get(name);
    return v.IsNumber() ? v.As<Napi::Number>().DoubleValue() : NAN;
  };
  const double capacity = field("capacity"), rate = field("rate"), burst = field("burst"), area = field("areaBytes");
  if (!(capacity >= 1 && capacity <= kMaxCapacity) || !(rate >= 0) || !(burst >= 0) || !(area >= 0 && area < 1e12)) return env.Null();
  const bool isVirtual = isTrue(o.Get("virtual")), isSystem = isTrue(o.Get("system"));
  const ClockKind real = !isSystem && hasInvariantTsc() && tscMultiplier() > 0 ? ClockKind::kTsc : ClockKind::kMonotonic;
  const RegionOptions options{static_cast<uint32_t>(capacity), rate, burst, isVirtual ? ClockKind::kVirtual : real, static_cast<uint64_t>(area)};
  const Napi::Value named = o.Get("name");
  if (!named.IsString()) {
    auto region = Region::create(options);
    return region ? attachmentObject(env, std::move(region)) : env.Null();
  }
  const std::string name = named.As<Napi::String>().Utf8Value();
  if (isVirtual || !isRegionName(name)) return env.Null();
  Refusal refusal = Refusal::kNone;
  auto region = Region::open(name, options, refusal);
  return region ? attachmentObject(env, std::move(region)) : refusalObject(env, refusal);
}

// (token): null when no table of this process has it.
Napi::Value attachTable(const Napi::CallbackInfo& info) {
  if (info.Length() < 1 || !info[0].IsString()) return info.Env().Null();
  auto region = Region::find(info[0].As<Napi::String>().Utf8Value());
  return region ? attachmentObject(info.Env(), std::move(region)) : info.Env().Null();
}

Napi::Value listRegions(const Napi::CallbackInfo& info) {
  const auto env = info.Env();
  const std::vector<RegionReport> reports = foretoken::listRegions();
  auto array = Napi::Array::New(env, reports.size());
  uint32_t at = 0;
  for (const RegionReport& r : reports) {
    auto o = Napi::Object::New(env);
    o.Set("name", r.name);
    o.Set("bytes", Napi::Number::New(env, static_cast<double>(r.bytes)));
    o.Set("refusal", Napi::Number::New(env, static_cast<int>(r.readable)));
    o.Set("inUse", Napi::Boolean::New(env, r.inUse));
    o.Set("capacity", Napi::Number::New(env, r.capacity));
    o.Set("targets", Napi::Number::New(env, r.targets));
    o.Set("ratePerSec", Napi::Number::New(env, r.ratePerSec));
    o.Set("burst", Napi::Number::New(env, r.burst));
    o.Set("controller", Napi::Number::New(env, r.controller));
    auto processes = Napi::Array::New(env, r.processes.size());
    for (uint32_t i = 0; i < r.processes.size(); ++i) processes.Set(i, Napi::Number::New(env, r.processes[i]));
    o.Set("processes", processes);
    array.Set(at++, o);
  }
  return array;
}

// (name, force)
Napi::Value removeRegion(const Napi::CallbackInfo& info) {
  std::string name;
  if (!textOf(info, 0, name) || !isRegionName(name)) return refusalObject(info.Env(), Refusal::kMissing);
  return refusalObject(info.Env(), foretoken::removeRegion(name, isTrue(info, 1)));
}

Napi::Object constants(Napi::Env env) {
  auto o = Napi::Object::New(env);
  const auto set = [&](const char* name, double value) { o.Set(name, Napi::Number::New(env, value)); };
  set("batch", kBatch);
  set("maxCapacity", kMaxCapacity);
  set("indexSpan", uint64_t{1} << kIndexBits);
  set("bytesPerTarget", sizeof(PlainBucket) + sizeof(PlainTally) + sizeof(PlainCompletion) + sizeof(PlainLine));
  set("bytesPerTargetAndThread", sizeof(PlainLane));
  set("bytesPerLease", sizeof(uint64_t));
  set("bytesPerUncharged", sizeof(PlainUncharged));
  set("lanes", kLanes);
  set("holdMs", static_cast<double>(kHoldNs) / 1e6);
  set("longestName", kLongestName);
  const auto group = [&](const char* name, std::initializer_list<std::pair<const char*, int>> entries) {
    auto g = Napi::Object::New(env);
    for (const auto& [key, value] : entries) g.Set(key, Napi::Number::New(env, value));
    o.Set(name, g);
  };
  group("frame", {{"handle", kHandle}, {"cost", kCost}, {"decision", kDecision}, {"level", kLevel}, {"rate", kRate}, {"burst", kBurst},
                  {"deposit", kDeposit}, {"waitMs", kWaitMs}, {"readBytes", kRead}, {"writeBytes", kWrite}, {"durationNs", kDuration}, {"ticket", kTicket},
                  {"held", kHeld}, {"left", kLeft}, {"served", kServed}, {"epoch", kEpoch}, {"promise", kPromise}, {"nowMs", kNowMs}});
  group("collect", {{"generation", kGeneration}, {"arrivals", kArrivals}, {"admitted", kAdmitted}, {"denied", kDenials},
                    {"demandTokens", kDemandTokens}, {"admittedTokens", kAdmittedTokens}, {"borrowedTokens", kBorrowedTokens},
                    {"readBytes", kReadBytes}, {"writeBytes", kWriteBytes}, {"completions", kCompletions}, {"durationNs", kDurationNs},
                    {"waitingTokens", kWaitingTokens}, {"passed", kPassed}, {"passedTokens", kPassedTokens}, {"unmetered", kUnmetered},
                    {"unmeteredTokens", kUnmeteredTokens}, {"columns", kCollectColumns}});
  group("levels", {{"level", kLevelTokens}, {"rate", kLevelRate}, {"burst", kLevelBurst}, {"deposit", kLevelDeposit}, {"columns", kLevelColumns}});
  group("decision", {{"own", kOwn}, {"borrowed", kBorrowed}, {"uncharged", kUncharged}, {"denied", kDenied}, {"badHandle", kBadHandle}, {"badCost", kBadCost},
                     {"tooLarge", kTooLarge}, {"closed", kClosed}, {"contended", kContended}, {"noSeat", kNoSeat}});
  const auto modeOf = [](Mode m) { return static_cast<int>(m); };
  group("mode", {{"enforce", modeOf(Mode::kEnforce)}, {"shadow", modeOf(Mode::kShadow)}, {"off", modeOf(Mode::kOff)}});
  group("status", {{"ok", kOk}, {"stale", kStale}, {"invalid", kInvalid}, {"overRate", kOverRate}, {"overBurst", kOverBurst},
                   {"overFallbackRate", kOverFallbackRate}, {"overFallbackBurst", kOverFallbackBurst}, {"full", kFull}, {"busy", kBusy},
                   {"lapsed", kLapsed}, {"deposed", kDeposed}});
  const auto code = [](Refusal r) { return static_cast<int>(r); };
  group("refusal", {{"none", code(Refusal::kNone)}, {"system", code(Refusal::kSystem)}, {"notOne", code(Refusal::kNotOne)},
                    {"abi", code(Refusal::kAbi)}, {"size", code(Refusal::kSize)}, {"clock", code(Refusal::kClock)},
                    {"owner", code(Refusal::kOwner)}, {"notReady", code(Refusal::kNotReady)}, {"options", code(Refusal::kOptions)},
                    {"crowded", code(Refusal::kCrowded)}, {"pidSpace", code(Refusal::kPidSpace)}, {"inUse", code(Refusal::kInUse)},
                    {"missing", code(Refusal::kMissing)}});
  return o;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* addon = new Addon();
  env.SetInstanceData(addon);
  napi_value acquire = nullptr;
  napi_create_function(env, "acquire", NAPI_AUTO_LENGTH, acquireHot, addon, &acquire);
  exports.Set("acquire", Napi::Value(env, acquire));
  exports.Set("ask", wrap(env, addon->ask.get(), sizeof(Ask), addon->ask));
  exports.Set("createTable", Napi::Function::New(env, createTable, "createTable"));
  exports.Set("attachTable", Napi::Function::New(env, attachTable, "attachTable"));
  exports.Set("listRegions", Napi::Function::New(env, listRegions, "listRegions"));
  exports.Set("removeRegion", Napi::Function::New(env, removeRegion, "removeRegion"));
  exports.Set("constants", constants(env));
  return exports;
}

}  // namespace

NODE_API_MODULE(foretoken, init)

}  // namespace foretoken
