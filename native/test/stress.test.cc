// Real threads on one bucket, until compare-exchanges really fail; then every token is accounted for.
#include <atomic>
#include <thread>

#include "harness.h"
#include "memory.h"

using namespace foretoken;

namespace {

std::atomic<uint64_t> lost{0};

// Counts the compare-exchanges that somebody else won.
template <class V>
struct Contested : std::atomic<V> {
  using std::atomic<V>::atomic;
  bool compare_exchange_weak(V& expected, V wanted, std::memory_order a, std::memory_order b) noexcept {
    const V hoped = expected;
    const bool won = std::atomic<V>::compare_exchange_weak(expected, wanted, a, b);
    if (!won && expected != hoped) lost.fetch_add(1, std::memory_order_relaxed);
    return won;
  }
};

constexpr uint64_t kPlenty = uint64_t{1} << 40;

struct Shared {
  Memory<Contested> memory{2, 0, kPlenty};
  Table<Contested>& table = memory.table;
  Slot slot{};
  std::atomic<uint64_t> spent{0}, given{0};

  Shared() {
    bool resumed = false;
    const auto clock = [] { return uint64_t{1}; };
    CHECK_EQ(static_cast<int>(table.extendValidity(kLatestNs, resumed, clock)), static_cast<int>(kOk));
    CHECK_EQ(static_cast<int>(table.addTarget(0, slot, clock)), static_cast<int>(kOk));
    CHECK_EQ(table.deposit(slot, kPlenty, kLatestNs, clock), decode(encode(kPlenty)));
  }

  void ask(uint64_t requests, uint64_t seed, bool lane) {
    Table<Contested> mine = table;
    if (lane) mine.claimLane(1);
    harness::Random random(seed);
    uint64_t took = 0, back = 0;
    for (uint64_t i = 0; i < requests; ++i) {
      const uint64_t cost = 1 + random.below(9);
      if (mine.acquire(slot, cost, 1) > 0) took += cost;
      if (random.oneIn(16) && mine.refund(slot, cost, 1) == kOwn) back += cost;
    }
    mine.releaseLane(1);
    spent.fetch_add(took, std::memory_order_relaxed);
    given.fetch_add(back, std::memory_order_relaxed);
  }

  void lease(uint64_t rounds, uint64_t seed) {
    Table<Contested> mine = table;
    CHECK(mine.claimLane(1));
    harness::Random random(seed);
    Table<Contested>::Lease chunk{};
    uint64_t took = 0;
    for (uint64_t i = 0; i < rounds; ++i) {
      const uint64_t used = random.below(chunk.units + 1);
      took += used;
      mine.lease(slot, {chunk.units, chunk.units - used, used}, random.oneIn(4) ? 0 : 1 + random.below(1000), 1, 1, chunk);
    }
    mine.lease(slot, {chunk.units, chunk.units, 0}, 0, 0, 1, chunk);
    mine.releaseLane(1);
    spent.fetch_add(took, std::memory_order_relaxed);
  }
};

// More and more, until threads have really met: one processor shows it only when a thread is interrupted.
template <class Fn>
void untilContested(Fn&& round) {
  lost.store(0, std::memory_order_relaxed);
  for (uint64_t n = harness::sanitized ? 4000 : 20000; lost.load(std::memory_order_relaxed) < 10; n *= 2) {
    CHECK_LE(n, uint64_t{1} << 24);
    round(n);
  }
}

}  // namespace

TEST("threads that meet at a bucket take every token once") {
  untilContested([](uint64_t n) {
    Shared s;
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < 4; ++t) threads.emplace_back([&s, n, t] { s.ask(n, t, t % 2 == 0); });
    for (auto& thread : threads) thread.join();
    const uint64_t taken = s.spent.load(std::memory_order_relaxed) - s.given.load(std::memory_order_relaxed);
    CHECK_EQ(s.table.counters(1).admittedTokens, taken);
    CHECK_EQ(s.table.levelOf(1, 1).level, static_cast<int64_t>(decode(encode(kPlenty)) - taken));
    CHECK_EQ(s.table.counters(1).admitted, 4 * n);
  });
}

TEST("threads that lease and threads that ask leave every token admitted or in the bucket") {
  untilContested([](uint64_t n) {
    Shared s;
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < 2; ++t) threads.emplace_back([&s, n, t] { s.ask(n, t, true); });
    for (uint64_t t = 2; t < 4; ++t) threads.emplace_back([&s, n, t] { s.lease(n, t); });
    for (auto& thread : threads) thread.join();
    const uint64_t taken = s.spent.load(std::memory_order_relaxed) - s.given.load(std::memory_order_relaxed);
    CHECK_EQ(s.table.leasedOf(1), 0);
    CHECK_EQ(s.table.counters(1).admittedTokens, taken);
    const int64_t whole = static_cast<int64_t>(decode(encode(kPlenty)) - taken);
    // What a lease cuts off a full bucket in passing is lost, never made.
    CHECK_LE(s.table.levelOf(1, 1).level, whole);
    CHECK_GE(s.table.levelOf(1, 1).level, whole - 1000 * 2);
  });
}

HARNESS_MAIN
