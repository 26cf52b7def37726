// Targets by name, in named regions.
#include <cstring>
#include <string>
#include <vector>

#include "arguments.h"
#include "calls.h"

namespace foretoken {
namespace {

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

}  // namespace

void addNames(Napi::Env env, Napi::Object object, Attachment* a) {
  addCalls(env, object, a, {
      {"putTarget", putTarget}, {"lookUpTarget", lookUpTarget}, {"describeTarget", describeTarget},
      {"rosterVersion", rosterVersion}, {"roster", roster}
  });
}

}  // namespace foretoken
