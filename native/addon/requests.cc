// What a request calls. These functions take no arguments: handle and cost lie in a frame both sides have mapped, the
// decision comes back in it. Unpacking two arguments costs as much as the decision itself.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "calls.h"

namespace foretoken {
namespace {

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

FORETOKEN_INLINE Addon& addonOf(napi_env env, napi_callback_info info) noexcept {
  if (lastCalled.env != env) [[unlikely]] {
    void* data = nullptr;
    napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
    lastCalled = {env, static_cast<Addon*>(data)};
  }
  return *lastCalled.addon;
}

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
  Addon& addon = addonOf(env, info);
  // Before the counter is read, which nothing that follows overtakes. The table is mostly the one asked last; of any other,
  // or one closed since, something useless is fetched, or nothing.
  if (addon.lastIsLarge) addon.last->table.prefetch(wholeOf(addon.asked->handle) & kIndexMask);
  // First of all that remains: until it has been read the processor goes on with what does not need it.
  const uint64_t ticks = readTsc();
  Ask& ask = *addon.asked;
  if (ask.table != addon.lastNumber) [[unlikely]] {
    // Written by our own TypeScript, yet it is an index. The comparison is also false for NaN.
    if (!(ask.table >= 0 && ask.table < static_cast<double>(addon.attachments.size()))) {
      ask.decision = kClosed;
      return nullptr;
    }
    addon.lastNumber = ask.table;
    addon.last = addon.attachments[static_cast<size_t>(ask.table)].get();
    addon.lastIsLarge = addon.last->isLarge;
  }
  Attachment& a = *addon.last;
  if (!a.ready && !a.prepare()) {
    ask.decision = kClosed;
    return nullptr;
  }
  const uint64_t now = a.clock.at(ticks);
  ask.decision = decidePlain(a.table, a.unitsPerToken, PlainTable::Instant{now}, wholeOf(ask.handle), ask.cost) ? kOwn : decideAny(a, ask.handle, ask.cost, now, false);
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

}  // namespace

Addon::~Addon() {
  if (lastCalled.addon == this) lastCalled = {};
  for (auto& a : attachments) a->close();
}

void addAcquire(Napi::Env env, Napi::Object exports, Addon* addon) {
  napi_value acquire = nullptr;
  napi_create_function(env, "acquire", NAPI_AUTO_LENGTH, acquireHot, addon, &acquire);
  exports.Set("acquire", Napi::Value(env, acquire));
  exports.Set("ask", wrap(env, addon->ask.get(), sizeof(Ask), addon->ask));
}

void addRequests(Napi::Env env, Napi::Object object, Attachment* a) {
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
}

}  // namespace foretoken
