// The addon, and the numbers that it shares with TypeScript.
#include "calls.h"
#include "directory.h"

namespace foretoken {
namespace {

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
  addAcquire(env, exports, addon);
  addRegions(env, exports);
  exports.Set("constants", constants(env));
  return exports;
}

}  // namespace

NODE_API_MODULE(foretoken, init)

}  // namespace foretoken
