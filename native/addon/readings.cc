// What a table says of all its targets at once: counters, levels, sums.
#include "arguments.h"
#include "calls.h"

namespace foretoken {
namespace {

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

}  // namespace

void addReadings(Napi::Env env, Napi::Object object, Attachment* a) {
  addCalls(env, object, a, {
      {"collect", collect}, {"totals", totals}, {"levels", levels}, {"sums", sums}
  });
}

}  // namespace foretoken
