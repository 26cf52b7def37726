// Ways to get more than there is, each tried on purpose. Rates and bursts are whole units, time in seconds.
#include "world.h"

using namespace foretoken;
using harness::Random;

namespace {

constexpr uint64_t kSecond = kNsPerSec;

// A world with targets of slots 1, 2, …, allocated and with a promise.
World worldWith(uint64_t rate, uint64_t burst, std::vector<std::pair<uint64_t, uint64_t>> allocated, bool borrow = true, uint64_t promiseNs = 1000 * kSecond) {
  World w(static_cast<uint32_t>(allocated.size()) + 2, rate, burst);
  w.extend(promiseNs);
  std::vector<Tab::Share> shares{{0, 0}};
  for (const auto& [r, b] : allocated) {
    w.add(borrow);
    shares.push_back({encode(r), encode(b)});
  }
  CHECK_EQ(static_cast<int>(w.allocate(shares, true)), static_cast<int>(kOk));
  return w;
}

// What a target gets if it asks unit by unit until it is denied.
uint64_t drain(World& w, uint32_t index, uint64_t cost = 1) {
  uint64_t got = 0;
  while (w.acquire(index, cost) > 0) got += cost;
  return got;
}

void fill(World& w, uint64_t seconds) {
  for (uint64_t s = 0; s < seconds; ++s) {
    w.advance(kSecond);
    w.tick();
  }
}

uint64_t effectiveRates(Tab& table, uint64_t now) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < table.highWater(); ++i) sum += table.levelOf(i, now).rate;
  return sum;
}
uint64_t effectiveBursts(Tab& table, uint64_t now) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < table.highWater(); ++i) sum += table.levelOf(i, now).burst + table.levelOf(i, now).deposit;
  return sum;
}

}  // namespace

TEST("a cut and a rise of the rate give a drained bucket nothing back") {
  World w = worldWith(1000, 1000, {{1000, 10}}, false);
  w.advance(10 * kSecond);
  CHECK_EQ(drain(w, 1), 10u);
  for (int i = 0; i < 600; ++i) {
    std::vector<Tab::Share> shares{{0, 0}, {encode(i % 2 ? 1000 : 10), encode(i % 3 ? 10 : 500)}};
    CHECK_EQ(static_cast<int>(w.allocate(shares, true)), static_cast<int>(kOk));
    CHECK_EQ(w.acquire(1, 1), static_cast<int32_t>(kDenied));
  }
}

TEST("an epoch that has come round keeps the level it had") {
  World w = worldWith(1000, 1000, {{0, 100}}, false);
  w.deposit(1, 60, 900 * kSecond);
  for (uint32_t i = 1; i <= 1000; ++i) {
    std::vector<Tab::Share> shares{{0, 0}, {encode(i % 2), encode(100)}};
    w.allocate(shares, true);
    CHECK_EQ(w.table.levelOf(1, w.now()).level, 60);
  }
}

TEST("a refund that found no room is not handed out by the next tick") {
  World w = worldWith(20, 100, {{5, 50}, {10, 20}});
  fill(w, 30);
  CHECK_EQ(w.acquire(1, 10), static_cast<int32_t>(kOwn));
  fill(w, 30);
  CHECK_EQ(w.levels() / reference::kNano, Wide{100});
  // All full: nowhere is there room for the refund. What overflows now was lost before 25 are taken.
  w.refund(1, 10);
  w.advance(kSecond);
  CHECK_EQ(w.acquire(2, 25), static_cast<int32_t>(kBorrowed));
  w.tick();
  CHECK_EQ(w.levels() / reference::kNano, Wide{75});
}

TEST("a slot that is removed and taken again does not lift what a tick may hand out") {
  World w = worldWith(20, 1000, {{5, 100}, {10, 100}});
  fill(w, 100);
  CHECK_EQ(w.acquire(1, 600), static_cast<int32_t>(kBorrowed));
  w.remove(1);
  fill(w, 200);
  CHECK_EQ(w.levels() / reference::kNano, Wide{1000});
  while (!w.targets.contains(1)) w.add(true);
  w.advance(kSecond);
  CHECK_EQ(w.acquire(2, 300), static_cast<int32_t>(kBorrowed));
  w.tick();
  CHECK_EQ(w.levels() / reference::kNano, Wide{700});
}

TEST("raising the resource's rate or burst hands out nothing for the time before") {
  for (const bool burst : {false, true}) {
    World w = worldWith(20, 100, {{0, 40}, {15, 40}});
    fill(w, 1);
    w.setShare(1, 10000);
    drain(w, 1);
    w.tick();
    w.advance(100 * kSecond);
    CHECK_EQ(static_cast<int>(w.setResource(burst ? 20 : 2000, burst ? 1000 : 100)), static_cast<int>(kOk));
    w.tick();
    w.check();
    w.setShare(1, 10000);
    drain(w, 1);
    drain(w, 2);
  }
}

TEST("what is changed after a lapse starts from what holds without a controller") {
  // Everything is allocated to the reservoir and one target; without a controller two others own it all.
  for (int change = 0; change < 5; ++change) {
    World w = worldWith(100, 100, {{60, 60}, {0, 0}, {0, 0}}, false, 10 * kSecond);
    w.setFallback(2, 50, 50);
    w.setFallback(3, 50, 50);
    w.deposit(1, 20, 100 * kSecond);
    w.advance(11 * kSecond);
    switch (change) {
      case 0: w.remove(1); break;
      case 1: w.withdraw(1); break;
      case 2: CHECK_EQ(static_cast<int>(w.setResource(100, 100)), static_cast<int>(kOk)); break;
      case 3: w.setFallback(2, 10, 10); break;
      case 4: w.tick(); break;
    }
    w.advance(kSecond);
    w.check();
    CHECK_LE(effectiveRates(w.table, w.now()), 100u);
    w.advance(100 * kSecond);
    w.check();
    for (auto& [i, t] : w.targets) drain(w, i);
  }
}

TEST("lapsing and resuming again and again makes no tokens, and ends every deposit") {
  World w = worldWith(100, 1000, {{20, 300}, {20, 300}}, true, kSecond);
  w.setFallback(1, 50, 500);
  w.setFallback(2, 50, 500);
  Random r(9);
  for (int cycle = 0; cycle < 300; ++cycle) {
    w.extend(kSecond);
    std::vector<Tab::Share> shares{{0, 0}, {encode(r.below(50)), encode(r.below(400))}, {encode(r.below(50)), encode(r.below(400))}};
    CHECK_EQ(static_cast<int>(w.allocate(shares, true)), static_cast<int>(kOk));
    w.deposit(1, r.below(200), 10 * kSecond);
    w.advance(r.below(kSecond));
    w.acquire(1 + static_cast<uint32_t>(r.below(2)), 1 + r.below(100));
    w.advance(kSecond);
    w.acquire(1 + static_cast<uint32_t>(r.below(2)), 1 + r.below(100));
    CHECK_EQ(w.table.levelOf(1, w.now()).deposit, 0u);
    w.setFallback(1, r.below(100), r.below(500));
    w.setFallback(1, 50, 500);
  }
}

TEST("without a controller requests go on at the fallback, and nobody has to act") {
  World w = worldWith(100, 100, {{90, 90}, {10, 10}}, false, 2 * kSecond);
  w.setFallback(1, 30, 30);
  w.setFallback(2, 60, 60);
  w.advance(2 * kSecond);
  drain(w, 1);
  drain(w, 2);
  w.advance(10 * kSecond);
  CHECK_EQ(drain(w, 1), 30u);
  CHECK_EQ(drain(w, 2), 60u);
  w.advance(kSecond / 2);
  CHECK_EQ(drain(w, 1), 15u);
  CHECK_EQ(drain(w, 2), 30u);
}

TEST("a promise that a request saw lapse cannot be extended as if nothing had happened") {
  World w = worldWith(100, 100, {{90, 90}}, false, 2 * kSecond);
  w.setFallback(1, 5, 5);
  w.advance(3 * kSecond);
  w.acquire(1, 1);
  CHECK(w.extend(10 * kSecond));
  CHECK_EQ(w.table.levelOf(1, w.now()).rate, 5u);
  CHECK_LE(w.table.levelOf(1, w.now()).level, 5);
}

TEST("a debt cannot be left behind by removing the target") {
  World w = worldWith(0, 100, {{0, 50}});
  w.deposit(1, 50, 500 * kSecond);
  w.charge(1, 80);
  w.remove(1);
  CHECK_EQ(w.table.levelOf(0, w.now()).level, -30);
}

TEST("a charge is a debt of at most one burst, and delays what comes after") {
  World w = worldWith(10, 100, {{10, 50}}, false);
  w.charge(1, 1000);
  CHECK_EQ(w.table.levelOf(1, w.now()).level, -50);
  w.charge(1, 1000);
  CHECK_EQ(w.table.levelOf(1, w.now()).level, -50);
  w.advance(5 * kSecond);
  CHECK_EQ(w.acquire(1, 1), static_cast<int32_t>(kDenied));
  w.advance(kSecond);
  CHECK_EQ(drain(w, 1), 10u);
}

TEST("charging and refunding does not refill a limit") {
  World w = worldWith(0, 1000, {{0, 500}}, false);
  w.deposit(1, 500, 500 * kSecond);
  w.setLimit(1, 0, 10);
  uint64_t got = drain(w, 1);
  for (int i = 0; i < 20; ++i) {
    w.charge(1, 10);
    w.refund(1, 10);
    got += drain(w, 1);
  }
  CHECK_EQ(got, 10u);
}

TEST("a request over its limit's burst is too large, however much its bucket holds") {
  World w = worldWith(100, 100, {{50, 50}}, false);
  w.setLimit(1, 10, 5);
  w.advance(5 * kSecond);
  CHECK_EQ(w.acquire(1, 6), static_cast<int32_t>(kTooLarge));
  CHECK_EQ(w.acquire(1, 5), static_cast<int32_t>(kOwn));
}

TEST("a bucket that nobody touched for a hundred years is full, not dead") {
  for (const bool ticks : {false, true}) {
    const uint64_t rate = (1ull << 34) - 1;
    World w = worldWith(rate, rate, {{rate / 2, rate / 2}}, true, kSecond);
    w.setFallback(1, rate / 4, rate / 4);
    for (int century = 0; century < 3; ++century) {
      w.advance(100ull * 365 * 86400 * kSecond);
      if (ticks) w.tick();
      CHECK_EQ(w.acquire(1, decode(encode(rate / 4)) / 2), static_cast<int32_t>(kOwn));
      w.acquire(1, 1ull << 32);
      w.refund(1, 5);
      w.charge(1, 5);
      w.check();
    }
  }
}

TEST("years at full load start new epochs by themselves and account for every unit") {
  const uint64_t rate = 1ull << 33;
  World w = worldWith(rate, rate, {{rate, rate}}, false, 1ull << 62);
  w.advance(2 * kSecond);
  const uint64_t start = w.admittedTokens() + static_cast<uint64_t>(w.table.levelOf(1, w.now()).level);
  const uint8_t epoch = Word{w.memory.bucket(1).word.load(std::memory_order_seq_cst)}.epoch();
  // 2^54 units take 24 days; a hundred days in steps of ten minutes, each step's yield taken in whole.
  const uint64_t steps = 100 * 144, stepNs = 600 * kSecond;
  uint64_t got = 0;
  CHECK_EQ(w.acquire(1, rate), static_cast<int32_t>(kOwn));
  for (uint64_t i = 0; i < steps; ++i) {
    w.advance(stepNs / 600);
    CHECK_EQ(w.acquire(1, rate), static_cast<int32_t>(kOwn));
    got += rate;
    w.advance(stepNs - stepNs / 600);
  }
  CHECK_EQ(got, rate * steps);
  CHECK_GE(w.admittedTokens(), start);
  CHECK(Word{w.memory.bucket(1).word.load(std::memory_order_seq_cst)}.epoch() != epoch);
}

TEST("freed slots come back in the order they were freed, with new generations") {
  World w(3, 100, 100);
  for (int i = 0; i < 3; ++i) w.add(true);
  CHECK_EQ(static_cast<int>(w.add(true)), static_cast<int>(kFull));
  for (int round = 0; round < 50; ++round) {
    w.remove(2);
    w.remove(1);
    w.add(true);
    CHECK(w.targets.contains(2) && !w.targets.contains(1));
    w.add(false);
    CHECK_EQ(static_cast<int>(w.add(true)), static_cast<int>(kFull));
    for (const Slot old : w.stale) w.useStale(old, 1);
  }
}

TEST("what idle buckets overflow is lent within a tick") {
  // Two of three are idle. All there is in ten seconds must reach the third, less about one tick's worth.
  const uint64_t rate = 3000000, burst = 3000000, tickNs = kSecond / 10;
  World w = worldWith(rate, burst, {{1000000, 500000}, {1000000, 500000}, {1000000, 500000}});
  fill(w, 5);
  w.setShare(1, rate);
  drain(w, 1, 1000);
  const uint64_t before = w.admittedTokens();
  for (int i = 0; i < 100; ++i) {
    w.advance(tickNs);
    w.tick();
    w.setShare(1, rate);
    drain(w, 1, 1000);
  }
  const uint64_t got = w.admittedTokens() - before;
  CHECK_LE(got, 10 * rate + 10);
  CHECK_GE(got, 10 * rate - 2 * rate / 10);
}

TEST("what is kept in the reservoir serves those who may take it, and a full one whoever asks for less than it holds") {
  const uint64_t rate = 1000, burst = 1000;
  World w = worldWith(rate, burst, {{0, 0}, {0, 0}});
  w.advance(10 * kSecond);
  w.setStock(600);
  w.setShare(1, 5000);
  w.setShare(2, 5000, true);
  CHECK_EQ(w.acquire(1, 900), static_cast<int32_t>(kBorrowed));
  w.advance(kSecond / 2);
  CHECK_EQ(w.acquire(1, 100), static_cast<int32_t>(kDenied));
  w.advance(kSecond / 10);
  CHECK_EQ(w.acquire(1, 100), static_cast<int32_t>(kBorrowed));
  CHECK_EQ(w.acquire(1, 1), static_cast<int32_t>(kDenied));
  CHECK_EQ(w.acquire(2, 600), static_cast<int32_t>(kBorrowed));
}

TEST("what full buckets in use clip is lent within a tick too") {
  // Two of three ask every millisecond for a tenth of what they have: each request clips a full bucket.
  const uint64_t rate = 3000000, burst = 3000000, tickNs = kSecond / 10;
  World w = worldWith(rate, burst, {{1000000, 500000}, {1000000, 500000}, {1000000, 500000}});
  fill(w, 5);
  w.setShare(1, rate);
  drain(w, 1, 1000);
  const uint64_t before = w.admittedTokens();
  for (int i = 0; i < 50; ++i) {
    for (int ms = 0; ms < 100; ++ms) {
      w.advance(tickNs / 100);
      for (const uint32_t busy : {2u, 3u}) CHECK_EQ(w.acquire(busy, 100), static_cast<int32_t>(kOwn));
    }
    w.tick();
    w.setShare(1, rate);
    drain(w, 1, 1000);
  }
  const uint64_t got = w.admittedTokens() - before;
  CHECK_LE(got, 5 * rate + 10);
  CHECK_GE(got, 5 * rate - 2 * rate / 10);
}

TEST("a clock that ran ahead or steps back lets no tick hand out more than there is") {
  // Requests and ticks read clocks that differ by up to a minute. Whatever order they come in, over the time that
  // their readings span no more is admitted than the resource gives.
  for (uint64_t seed = 1; seed <= harness::runs(400); ++seed) {
    Random r(seed);
    harness::context() = "seed " + std::to_string(seed);
    const uint64_t rate = 1000, burst = 1000;
    uint64_t now = kSecond, first = UINT64_MAX, last = 0, admitted = 0;
    Memory<std::atomic> m(3, rate, burst);
    const auto clock = [&] { return now; };
    bool resumed = false;
    m.table.extendValidity(kSecond << 20, resumed, clock);
    std::vector<Slot> slots(3);
    for (Slot& slot : slots) CHECK_EQ(static_cast<int>(m.table.addTarget(kMayBorrow, slot, clock)), static_cast<int>(kOk));
    Tab::Share shares[4]{{0, 0}, {encode(400), encode(200)}, {encode(300), encode(300)}, {encode(100), encode(100)}};
    CHECK_EQ(static_cast<int>(m.table.allocate(shares, 4, true, clock)), static_cast<int>(kOk));
    for (int n = 0; n < 300; ++n) {
      now += r.below(kSecond / 5);
      const uint64_t at = r.oneIn(3) ? now + r.below(60 * kSecond) : r.oneIn(3) ? now - r.below(std::min(now - 1, 60 * kSecond)) : now;
      if (r.oneIn(3)) {
        m.table.tick(0, [at] { return at; });
        for (const Slot& slot : slots) m.table.setBorrowShare(slot.index, static_cast<int64_t>(burst));
        continue;
      }
      const uint64_t cost = 1 + r.below(burst / 4);
      if (m.table.acquire(slots[r.below(3)], cost, at) <= 0) continue;
      admitted += cost;
      first = std::min(first, at);
      last = std::max(last, at);
      CHECK_LE(units(admitted), units(burst) + (Wide{last} - first) * rate);
    }
  }
}

TEST("a deposit ends when it must, and its unused part is the reservoir's again") {
  World w = worldWith(100, 1000, {{10, 100}}, false);
  w.advance(20 * kSecond);
  const int64_t pool = w.table.levelOf(0, w.now()).level;
  CHECK_EQ(w.deposit(1, 300, kSecond), 300u);
  CHECK_EQ(w.table.levelOf(0, w.now()).level, pool - 300);
  w.acquire(1, 150);
  w.advance(2 * kSecond);
  CHECK_EQ(w.table.levelOf(1, w.now()).level, 100);
  // 250 were left; what has refilled since counts as deposit too, up to its amount.
  CHECK_EQ(w.reclaim(), 170);
  CHECK_EQ(w.table.levelOf(0, w.now()).burst, 900u);
  CHECK_EQ(w.reclaim(), 0);
}

TEST("a deposit too short to arrive moves nothing") {
  World w = worldWith(100, 1000, {{10, 100}}, false);
  CHECK_EQ(w.deposit(1, 300, 1000), 0u);
  CHECK_EQ(w.table.levelOf(0, w.now()).burst, 900u);
}

TEST("an allocation beside outstanding deposits counts them, and is refused whole when it does not fit") {
  World w = worldWith(100, 1000, {{10, 100}, {10, 100}}, false);
  w.deposit(1, 400, 100 * kSecond);
  CHECK_EQ(static_cast<int>(w.allocate({{0, 0}, {encode(10), encode(601)}, {0, 0}}, true)), static_cast<int>(kOverBurst));
  CHECK_EQ(static_cast<int>(w.allocate({{0, 0}, {encode(10), encode(600)}, {0, 0}}, true)), static_cast<int>(kOk));
  CHECK_EQ(effectiveBursts(w.table, w.now()), 1000u);
  w.advance(50 * kSecond);
  w.remove(1);
  CHECK_EQ(effectiveBursts(w.table, w.now()), 1000u);
}

TEST("a control plane whose clock stepped back after a lapse resumes, and still falls back in the end") {
  Memory<std::atomic> m(2, 100, 100);
  uint64_t now = 1;
  const auto clock = [&] { return now; };
  bool resumed = false;
  Slot slot{};
  CHECK_EQ(static_cast<int>(m.table.addTarget(0, slot, clock)), static_cast<int>(kOk));
  CHECK_EQ(static_cast<int>(m.table.setFallback(slot, 20, 20, clock)), static_cast<int>(kOk));
  now = 100 * kSecond;
  m.table.extendValidity(now + 2 * kSecond, resumed, clock);
  Tab::Share before[2]{{0, 0}, {encode(50), encode(50)}};
  CHECK_EQ(static_cast<int>(m.table.allocate(before, 2, true, clock)), static_cast<int>(kOk));
  now = 103 * kSecond;
  m.table.acquire(slot, 1, now);
  now = 50 * kSecond;
  m.table.extendValidity(now + 2 * kSecond, resumed, clock);
  CHECK(resumed);
  Tab::Share shares[2]{{0, 0}, {encode(90), encode(90)}};
  CHECK_EQ(static_cast<int>(m.table.allocate(shares, 2, true, clock)), static_cast<int>(kOk));
  CHECK_EQ(m.table.levelOf(1, now).rate, 90u);
  CHECK_EQ(effectiveRates(m.table, now), 100u);
  for (now = 50 * kSecond; now < 200 * kSecond; now += kSecond) CHECK_LE(effectiveRates(m.table, now), 100u);
  CHECK_EQ(m.table.levelOf(1, now).rate, 20u);
  CHECK_EQ(m.table.levelOf(0, now).rate, 80u);
}

TEST("a promise into the far future is one to the end of time, not to its beginning") {
  Memory<std::atomic> m(2, 100, 100);
  const auto clock = [] { return uint64_t{5}; };
  bool resumed = false;
  CHECK_EQ(static_cast<int>(m.table.extendValidity((uint64_t{1} << 63) + 10, resumed, clock)), static_cast<int>(kOk));
  CHECK_EQ(m.header().validUntil.load(std::memory_order_seq_cst) >> 1, ~uint64_t{0} >> 1);
}

// A lease of 50 out of a burst of 800, whose target has a burst of 10 when the promise has lapsed and the other one all
// the rest; the resource has 1000. Time passes until everything would be full under the fallbacks.
World leasedAcrossLapse() {
  World w = worldWith(100, 1000, {{80, 800}, {20, 200}}, false, 100 * kSecond);
  w.setFallback(1, 1, 10);
  w.setFallback(2, 99, 990);
  w.advance(50 * kSecond);
  w.lease(0, 1, 50, 1);
  CHECK_EQ(w.table.leasedOf(1), 50);
  w.advance(10000 * kSecond);
  return w;
}

TEST("what was leased before a lapse is not spent beside the burst that others have after it") {
  World w = leasedAcrossLapse();
  w.acquire(2, 1);
  w.advance(kSecond);
  drain(w, 2);
  drain(w, 1);
  w.spend(0, 1, 50);
}

TEST("what was leased before a lapse and spent before anybody noticed it leaves others that much less") {
  World w = leasedAcrossLapse();
  w.spend(0, 1, 50);
  drain(w, 1);
  drain(w, 2);
  w.advance(1);
  drain(w, 2);
}

TEST("what was leased before a burst was cut is not leased on while the debt that the cut left stands") {
  World w = worldWith(100, 1000, {{80, 800}, {20, 200}}, false);
  w.advance(50 * kSecond);
  w.lease(0, 1, 50, 1);
  CHECK_EQ(static_cast<int>(w.allocate({{0, 0}, {0, 0}, {encode(100), encode(1000)}}, false)), static_cast<int>(kOk));
  CHECK_EQ(w.table.levelOf(1, w.now()).level, -50);
  w.advance(50 * kSecond);
  drain(w, 2);
  CHECK_EQ(static_cast<int>(w.allocate({{0, 0}, {0, encode(800)}, {encode(100), encode(200)}}, false)), static_cast<int>(kOk));
  w.lease(0, 1, 50, 1);
  w.spend(0, 1, 50);
  CHECK_EQ(w.table.levelOf(1, w.now()).level, 0);
}

TEST("what is leased out of a deposit that has expired does not come back with it") {
  World w = worldWith(100, 1000, {{100, 20}}, false);
  w.deposit(1, 700, 50 * kSecond);
  w.lease(0, 1, 45, 1);
  CHECK_EQ(w.table.leasedOf(1), 45);
  w.advance(100 * kSecond);
  w.spend(0, 1, 45);
  w.reclaim();
  CHECK_LE(w.usable(), units(1000 - 45 + 4));
}

TEST("changes that a lapse overtakes half-way keep the sums and the law") {
  // The clock moves on at every reading, and promises are short: lapses fall between any two steps of a change.
  for (uint64_t seed = 1; seed <= harness::runs(1500); ++seed) {
    Random r(seed);
    harness::context() = "seed " + std::to_string(seed);
    const uint64_t rate = 1000000, burst = 1000000;
    uint64_t now = 1;
    const auto clock = [&] { return now += r.oneIn(3) ? r.below(kSecond / 4) : 1; };
    Memory<std::atomic> m(4, rate, burst);
    Tab& table = m.table;
    reference::Bucket resource(rate, burst, 1, 5);
    std::vector<Slot> slots;
    for (int n = 0; n < 150; ++n) {
      bool resumed = false;
      const Slot slot = slots.empty() ? Slot{1, 1} : slots[r.below(slots.size())];
      Tab::Share shares[5]{};
      for (auto& s : shares) s = {encode(r.below(rate / 4)), encode(r.below(burst / 4))};
      switch (r.below(12)) {
        case 0: table.extendValidity(now + r.below(kSecond), resumed, clock); break;
        case 1: table.allocate(shares, table.highWater(), r.oneIn(2), clock); break;
        case 2: table.deposit(slot, r.below(burst / 4), now + r.below(2 * kSecond), clock); break;
        case 3: table.withdraw(slot, clock); break;
        case 4: table.setFallback(slot, r.below(rate / 3), r.below(burst / 3), clock); break;
        case 5: table.setFallbacks(shares, table.highWater(), clock); break;
        case 6: table.tick(0, clock); break;
        case 7: table.setResource(rate, burst, clock); break;
        case 8: {
          Slot fresh{};
          if (table.addTarget(r.oneIn(2) ? kMayBorrow : 0, fresh, clock) == kOk) slots.push_back(fresh);
          break;
        }
        case 9:
          if (slots.size() > 2 && r.oneIn(2)) {
            const size_t k = r.below(slots.size());
            CHECK_EQ(static_cast<int>(table.removeTarget(slots[k], clock)), static_cast<int>(kOk));
            slots.erase(slots.begin() + static_cast<long>(k));
          }
          break;
        default: {
          const uint64_t cost = 1 + r.below(burst / 10);
          resource.advance(now);
          if (table.acquire(slot, cost, now) > 0) {
            resource.take(cost);
            CHECK_GE(resource.level(), Wide{0});
          }
        }
      }
      CHECK_LE(effectiveRates(table, now), rate);
      CHECK_LE(effectiveBursts(table, now), burst);
      CHECK_LE(effectiveRates(table, now + 2 * kSecond), rate);
      CHECK_LE(effectiveBursts(table, now + 2 * kSecond), burst);
      resource.advance(now);
      Wide levels = 0;
      for (uint32_t i = 0; i < table.highWater(); ++i) levels += units(1) * table.levelOf(i, now).level;
      CHECK_LE(levels, resource.level());
    }
  }
}

TEST("in shadow a target takes what it would, and who would be denied is admitted without tokens") {
  World w = worldWith(100, 200, {{10, 50}, {10, 50}});
  fill(w, 30);
  w.setShare(1, 20);
  w.setMode(1, Mode::kShadow);
  CHECK_EQ(w.acquire(1, 40), static_cast<int32_t>(kOwn));
  CHECK_EQ(w.acquire(1, 20), static_cast<int32_t>(kBorrowed));
  const reference::Wide before = w.levels();
  // Denied, dearer than any burst, and dearer than units can say.
  CHECK_EQ(w.acquire(1, 20), static_cast<int32_t>(kUncharged));
  CHECK_EQ(w.acquire(1, 100000), static_cast<int32_t>(kUncharged));
  CHECK_EQ(w.table.acquireBeyond(w.targets.at(1).slot), static_cast<int32_t>(kUncharged));
  CHECK(w.levels() == before);
  CHECK_EQ(w.table.counters(1).denied, 2u);
  CHECK_EQ(w.table.counters(1).passed, 3u);
  w.targets.at(1).passed = 3;
  w.setMode(1, Mode::kEnforce);
  CHECK_EQ(w.acquire(1, 20), static_cast<int32_t>(kDenied));
  CHECK_EQ(w.table.acquireBeyond(w.targets.at(1).slot), static_cast<int32_t>(kTooLarge));
}

TEST("switched off, a target takes nothing, whatever it asks for, and all of it is counted") {
  World w = worldWith(100, 200, {{10, 50}});
  fill(w, 30);
  w.setLimit(1, 1, 1);
  w.setMode(1, Mode::kOff);
  const reference::Wide before = w.levels();
  for (const uint64_t cost : {1u, 50u, 1000u}) CHECK_EQ(w.acquire(1, cost), static_cast<int32_t>(kUncharged));
  w.charge(1, 30);
  w.refund(1, 1000);
  CHECK(w.levels() == before);
  CHECK_EQ(w.table.counters(1).unmetered, 3u);
  CHECK_EQ(w.table.counters(1).unmeteredTokens, 81u);
  CHECK_EQ(w.table.counters(1).admitted, 0u);
  CHECK_EQ(w.table.counters(1).denied, 0u);
}

TEST("a refund of what was admitted without tokens makes none") {
  World w = worldWith(100, 200, {{0, 50}}, false);
  w.deposit(1, 40, 900 * kSecond);
  w.setMode(1, Mode::kShadow);
  CHECK_EQ(w.acquire(1, 40), static_cast<int32_t>(kOwn));
  CHECK_EQ(w.acquire(1, 30), static_cast<int32_t>(kUncharged));
  w.refund(1, 30);
  CHECK_EQ(w.table.levelOf(1, w.now()).level, 0);
  // What is left can only be of what was charged.
  w.refund(1, 40);
  CHECK_EQ(w.table.levelOf(1, w.now()).level, 40);
  w.refund(1, 1);
}

TEST("who takes over a slot begins enforced and with no counts") {
  World w = worldWith(100, 200, {{10, 50}});
  while (w.targets.size() < 3) w.add(true);
  w.setMode(1, Mode::kOff);
  w.acquire(1, 10);
  w.remove(1);
  w.add(true);
  CHECK_EQ(w.targets.at(1).slot.index, 1u);
  CHECK(w.table.modeOf(1) == Mode::kEnforce);
  CHECK_EQ(w.acquire(1, 500), static_cast<int32_t>(kTooLarge));
  w.setMode(1, Mode::kShadow);
  CHECK_EQ(w.table.counters(1).unmetered, 0u);
}

TEST("one who waits in line is let through once nobody is denied any more, and nobody joins") {
  World w = worldWith(100, 200, {{0, 50}}, false);
  Tab& table = w.table;
  const Slot slot = w.targets.at(1).slot;
  const uint32_t seat = table.takeSeat();
  table.showLife(seat, w.now() + kSecond);
  const uint64_t ticket = table.joinLine(slot, 10);
  uint64_t ahead = 0;
  CHECK_EQ(table.acquireInLine(slot, seat, ticket, 10, w.now(), w.now() + kSecond, ahead), static_cast<int32_t>(kDenied));
  CHECK(table.isLineHeld(1, w.now()));
  CHECK_EQ(table.acquire(slot, 1, w.now()), static_cast<int32_t>(kDenied));
  for (const Mode mode : {Mode::kShadow, Mode::kOff}) {
    CHECK_EQ(static_cast<int>(table.setMode(slot, mode, w.now())), static_cast<int>(kOk));
    CHECK(!table.isLineHeld(1, w.now()));
    CHECK_EQ(table.acquire(slot, 1, w.now()), static_cast<int32_t>(kUncharged));
  }
  CHECK_EQ(table.acquireInLine(slot, seat, ticket, 10, w.now(), w.now() + kSecond, ahead), static_cast<int32_t>(kUncharged));
  // Denied: the newcomer when it was enforced, and the one in shadow. Who waited no longer is.
  CHECK_EQ(table.counters(1).denied, 2u);
  CHECK_EQ(table.counters(1).passed, 1u);
  CHECK_EQ(table.counters(1).unmetered, 2u);
}

HARNESS_MAIN

TEST("a new target has its share at once, as far as the reservoir has it left, and mints nothing by it") {
  Memory<std::atomic> memory(4, 1000, 500);
  Tab& table = memory.table;
  uint64_t now = 10 * kSecond;
  const auto clock = [&now] { return now; };
  bool resumed = false;
  table.extendValidity(now + 100 * kSecond, resumed, clock);
  Slot first{}, second{}, third{};
  for (Slot* slot : {&first, &second, &third}) {
    table.addTarget(0, *slot, clock);
    CHECK_EQ(table.acquire(*slot, 1, now), static_cast<int32_t>(kDenied));
    CHECK_EQ(table.largestAdmissible(*slot, now), 500u);
  }
  table.setFallback(first, 600, 300, clock);
  table.setFallback(second, 400, 200, clock);
  for (int i = 0; i < 3; ++i) CHECK_EQ(static_cast<int>(table.endow(first, clock)), static_cast<int>(kOk));
  CHECK_EQ(table.levelOf(1, now).level, 300);
  CHECK_EQ(table.levelOf(0, now).level, 200);
  // Half of what the second is owed has been given away as a deposit: it gets what is left.
  CHECK_EQ(table.deposit(first, 100, now + 50 * kSecond, clock), 100u);
  table.endow(second, clock);
  CHECK_EQ(table.levelOf(2, now).level, 100);
  CHECK_EQ(table.levelOf(2, now).rate, 400u);
  CHECK_EQ(table.endow(third, clock), kOk);
  CHECK_EQ(table.levelOf(3, now).level, 0);
  CHECK_EQ(effectiveRates(table, now), 1000u);
  CHECK_EQ(effectiveBursts(table, now), 500u);
  uint64_t got = 0;
  for (Slot slot : {first, second, third})
    while (table.acquire(slot, 1, now) > 0) ++got;
  CHECK_EQ(got, 500u);
  table.removeTarget(first, clock);
  CHECK_EQ(static_cast<int>(table.endow(first, clock)), static_cast<int>(kStale));
}
