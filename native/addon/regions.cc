// Regions: made, attached to, listed and removed, and what JavaScript sees of one.
#include <cerrno>
#include <cstring>

#include "arguments.h"
#include "calls.h"
#include "named.h"

namespace foretoken {
namespace {

constexpr uint32_t kLargeFrom = 1 << 13;  // targets whose buckets do not lie in the cache, so that fetching them ahead pays

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
  addRequests(env, object, a);
  addControl(env, object, a);
  addNames(env, object, a);
  addReadings(env, object, a);
  addCalls(env, object, a, {
      {"setVirtualMs", setVirtualMs}, {"nowMs", nowMs}, {"highWater", highWater}, {"close", close}
  });
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

}  // namespace

void addRegions(Napi::Env env, Napi::Object exports) {
  addCalls(env, exports, nullptr, {
      {"createTable", createTable}, {"attachTable", attachTable}, {"listRegions", listRegions}, {"removeRegion", removeRegion}
  });
}

}  // namespace foretoken
