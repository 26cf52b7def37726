// The control plane's calls: targets come and go, rates, bursts and tokens move, and who may say so.
#include <vector>

#include "arguments.h"
#include "calls.h"
#include "process.h"

namespace foretoken {
namespace {

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

}  // namespace

void addControl(Napi::Env env, Napi::Object object, Attachment* a) {
  addCalls(env, object, a, {
      {"addTarget", addTarget}, {"removeTarget", removeTarget}, {"setLimit", setLimit},
      {"setFallback", setFallback}, {"setFallbacks", setFallbacks}, {"endow", endow}, {"allocate", allocate},
      {"deposit", deposit}, {"withdraw", withdraw}, {"reclaimExpired", reclaimExpired}, {"tick", tick},
      {"setBorrowShares", setBorrowShares}, {"setMayBorrow", setMayBorrow}, {"setMode", setMode},
      {"modeOf", modeOf}, {"extendValidity", extendValidity}, {"setResource", setResource}, {"showLife", showLife},
      {"setHoldsLine", setHoldsLine}, {"takeRole", takeRole}, {"renewRole", renewRole}, {"leaveRole", leaveRole},
      {"roleState", roleState}
  });
}

}  // namespace foretoken
