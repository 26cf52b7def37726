// What the core's calls cost without Node: `npm run bench:native`. Arms take turns, so compare within one run.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "region.h"

using namespace foretoken;

namespace {

constexpr int kRounds = 31;
constexpr uint32_t kCalls = 20000, kMany = 1000, kMost = 1000000, kThreadCalls = 1000000;

double secondsSince(std::chrono::steady_clock::time_point began) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::exit(1);
}

// A table whose every request is admitted, from its target's own bucket.
struct Stage {
  std::shared_ptr<Region> region;
  PlainTable table;
  RegionClock clock{};
  std::vector<Slot> slots;

  explicit Stage(uint32_t targets) {
    region = Region::create({targets, 1e9, 1e9, hasInvariantTsc() ? ClockKind::kTsc : ClockKind::kMonotonic, 0});
    if (!region) fail("no memory for the table");
    table = region->table();
    clock = region->clock();
    std::vector<PlainTable::Share> shares(targets + 1);
    bool resumed = false;
    if (table.extendValidity(kLatestNs, resumed, clock) != kOk) fail("no promise");
    for (uint32_t i = 0; i < targets; ++i) {
      Slot slot{};
      if (table.addTarget(kMayBorrow, slot, clock) != kOk) fail("no target");
      slots.push_back(slot);
      shares[slot.index] = {encode(region->rateUnits(1e9 / targets)), encode(region->units(1e9 / targets))};
    }
    if (table.allocate(shares.data(), targets + 1, true, clock) != kOk) fail("no allocation");
    std::vector<PlainTable::Share> fallbacks = shares;
    if (table.setFallbacks(fallbacks.data(), targets + 1, clock) != kOk) fail("no fallbacks");
    // Levels begin at zero: a full second fills them.
    const uint64_t from = clock();
    while (clock() - from < 1000000000ull) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    table.claimLane(clock());
  }
};

uint64_t admitted = 0;

}  // namespace

int main() {
  Stage one(1), two(2), many(kMany), most(kMost);
  const uint64_t unit = one.region->costUnits(1), unitOfMany = many.region->costUnits(1), unitOfMost = most.region->costUnits(1), unitOfTwo = two.region->costUnits(1);
  uint64_t random = 1;
  // Longer than a round, and gone through in turn: targets that were asked a moment ago lie in the cache.
  std::vector<uint32_t> order(kMost);
  for (uint32_t& i : order) i = static_cast<uint32_t>(((random = random * 6364136223846793005ull + 1442695040888963407ull) >> 33) % kMost);
  uint32_t at = 0;
  const auto next = [&] { return order.data() + (at = at + 2 * kCalls > kMost ? 0 : at + kCalls); };
  uint64_t sink = 0;
  std::atomic<uint64_t> word{0};
  const std::vector<std::pair<std::string, std::function<void()>>> arms = {
      {"clock", [&] { for (uint32_t i = 0; i < kCalls; ++i) sink += one.clock(); }},
      // What no way of deciding by the clock in a shared word can do without.
      {"clock, one compare-exchange", [&] {
         for (uint32_t i = 0; i < kCalls; ++i) {
           uint64_t seen = word.load(std::memory_order_relaxed);
           sink += word.compare_exchange_weak(seen, seen + one.clock(), std::memory_order_seq_cst, std::memory_order_relaxed);
         }
       }},
      {"acquire, one target", [&] { for (uint32_t i = 0; i < kCalls; ++i) admitted += one.table.acquire(one.slots[0], unit, one.clock()) > 0; }},
      {"acquire, one target, one clock read", [&] { const uint64_t now = one.clock(); for (uint32_t i = 0; i < kCalls; ++i) admitted += one.table.acquire(one.slots[0], unit, now) > 0; }},
      {"acquire, 1,000 targets in turn", [&] { for (uint32_t i = 0; i < kCalls; ++i) admitted += many.table.acquire(many.slots[i % kMany], unitOfMany, many.clock()) > 0; }},
      {"batch, 1,000 targets in turn", [&] {
         const uint64_t now = many.clock();
         for (uint32_t i = 0; i < kCalls; ++i) {
           many.table.prefetch((i + 8) % kMany);
           admitted += many.table.acquire(many.slots[i % kMany], unitOfMany, now) > 0;
         }
       }},
      {"acquire, 1,000,000 targets at random", [&] {
         const uint32_t* drawn = next();
         for (uint32_t i = 0; i < kCalls; ++i) admitted += most.table.acquire(most.slots[drawn[i]], unitOfMost, most.clock()) > 0;
       }},
      {"batch, 1,000,000 targets at random", [&] {
         const uint64_t now = most.clock();
         const uint32_t* drawn = next();
         for (uint32_t i = 0; i < kCalls; ++i) {
           if (i + 16 < kCalls) most.table.prefetch(drawn[i + 16] + 1);
           admitted += most.table.acquire(most.slots[drawn[i]], unitOfMost, now) > 0;
         }
       }},
      {"lease of 64 settled and renewed", [&] {
         PlainTable::Lease lease{};
         for (uint32_t i = 0; i < kCalls; ++i) admitted += one.table.lease(one.slots[0], {lease.units, 0, 64}, 64 * unit, 64 * unit, one.clock(), lease) > 0;
         one.table.lease(one.slots[0], {lease.units, 0, 64}, 0, 0, one.clock(), lease);
       }},
  };
  std::vector<std::vector<double>> ns(arms.size());
  for (int round = 0; round <= kRounds; ++round)
    for (size_t a = 0; a < arms.size(); ++a) {
      const auto began = std::chrono::steady_clock::now();
      arms[a].second();
      // The first round warms up.
      if (round) ns[a].push_back(secondsSince(began) * 1e9 / kCalls);
    }
  if (sink == 0 || admitted < kCalls * 7ull * kRounds) fail("requests were denied: the figures would be those of denials");
  std::printf("One call of the core, ns: median (min..max) of %d interleaved rounds\n", kRounds);
  for (size_t a = 0; a < arms.size(); ++a) {
    std::sort(ns[a].begin(), ns[a].end());
    std::printf("  %-38s %7.1f  (%.1f..%.1f)\n", arms[a].first.c_str(), ns[a][kRounds / 2], ns[a].front(), ns[a].back());
  }

  std::printf("Threads, million calls a second: median of %d rounds\n", kRounds);
  const auto threads = [&](const char* name, const std::vector<uint32_t>& targets) {
    std::vector<double> rates;
    for (int round = 0; round < kRounds; ++round) {
      std::atomic<uint32_t> ready{0};
      std::vector<std::thread> running;
      std::atomic<int64_t> beganNs{0};
      for (uint32_t t = 0; t < targets.size(); ++t)
        running.emplace_back([&, t] {
          PlainTable table = two.region->table();
          table.claimLane(two.clock());
          if (ready.fetch_add(1, std::memory_order_relaxed) + 1 == targets.size()) beganNs.store(static_cast<int64_t>(monotonicNs()), std::memory_order_relaxed);
          while (beganNs.load(std::memory_order_relaxed) == 0) std::this_thread::yield();
          uint64_t served = 0;
          for (uint32_t i = 0; i < kThreadCalls; ++i) served += table.acquire(two.slots[targets[t]], unitOfTwo, two.clock()) > 0;
          if (served != kThreadCalls) fail("requests were denied: the figures would be those of denials");
          table.releaseLane(two.clock());
        });
      for (auto& thread : running) thread.join();
      rates.push_back(static_cast<double>(kThreadCalls) * targets.size() / (static_cast<double>(monotonicNs()) - static_cast<double>(beganNs.load(std::memory_order_relaxed))) * 1e3);
    }
    std::sort(rates.begin(), rates.end());
    std::printf("  %-38s %7.1f\n", name, rates[kRounds / 2]);
  };
  threads("one", {0});
  threads("two, different targets", {0, 1});
  threads("two, the same target", {0, 0});
  return 0;
}
