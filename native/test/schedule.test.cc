// Every interleaving, within a bound on preemptions, of two and three threads over short scripts. After each
// write the laws must hold for whoever looks at the table.
//
// Fibers are made with ucontext, which only Linux still has whole; the core is the same elsewhere.
#if !defined(__linux__)
#include <cstdio>
int main() {
  std::printf("skipped: fibers need Linux\n0 passed, 0 failed\n");
  return 0;
}
#else
#include "schedule.h"

#include <array>

#include "memory.h"
#include "reference.h"

using namespace foretoken;
using schedule::Explorer;
using schedule::Stepped;

namespace {

constexpr uint64_t kSecond = kNsPerSec;

// A table, its time, and what has been granted.
template <template <class> class Atomic>
struct Stage {
  Memory<Atomic> memory;
  Table<Atomic>& table;
  Atomic<uint64_t>& time;
  uint64_t rate, burst, startNs;
  int64_t granted = 0;
  Slot a{}, b{};

  Stage(uint64_t resourceRate, uint64_t resourceBurst, uint32_t capacity = 3)
      : memory(capacity, resourceRate, resourceBurst, 1, {.now = [](const Header<Atomic>& header) { return header.virtualNs.load(std::memory_order_seq_cst); }}),
        table(memory.table), time(memory.header().virtualNs), rate(resourceRate), burst(resourceBurst), startNs(1) {
    time.store(1, std::memory_order_relaxed);
  }

  auto clock() {
    return [this] { return time.load(std::memory_order_seq_cst); };
  }
  // Two targets, allocated and filled by deposits that are ended at once, so the levels are exactly these.
  void open(std::array<uint64_t, 2> rates, std::array<uint64_t, 2> bursts, std::array<uint64_t, 2> levels, bool borrow, uint64_t promiseNs = 1000 * kSecond) {
    bool resumed = false;
    must(table.extendValidity(time.load(std::memory_order_seq_cst) + promiseNs, resumed, clock()));
    must(table.addTarget(borrow ? kMayBorrow : 0, a, clock()));
    must(table.addTarget(borrow ? kMayBorrow : 0, b, clock()));
    allocate(rates, bursts);
    // Levels as if they had been filled: what the reservoir gave up with its burst.
    const auto fill = [&](Slot slot, uint64_t level) {
      auto& word = memory.bucket(slot.index).word;
      word.store(pack(static_cast<int64_t>(level), Word{word.load(std::memory_order_seq_cst)}.epoch()).bits);
    };
    fill(a, levels[0]);
    fill(b, levels[1]);
  }
  Status allocate(std::array<uint64_t, 2> rates, std::array<uint64_t, 2> bursts) {
    typename Table<Atomic>::Share shares[3]{{0, 0}, {encode(rates[0]), encode(bursts[0])}, {encode(rates[1]), encode(bursts[1])}};
    return table.allocate(shares, 3, true, clock());
  }
  int32_t acquire(Slot slot, uint64_t cost) {
    const int32_t decision = table.acquire(slot, cost, time.load(std::memory_order_seq_cst));
    if (decision == kOwn || decision == kBorrowed) granted += static_cast<int64_t>(cost);
    return decision;
  }
  void refund(Slot slot, uint64_t units) {
    granted -= static_cast<int64_t>(units);
    if (table.refund(slot, units, time.load(std::memory_order_seq_cst)) != kOwn) granted += static_cast<int64_t>(units);
  }
  static void must(Status s) {
    if (s != kOk) throw harness::Failure("setup: status " + std::to_string(s));
  }

  // Law 2 as an outsider sees it: what was granted and what could be taken now, against the resource.
  void laws() {
    const uint64_t now = time.load(std::memory_order_seq_cst);
    int64_t levels = 0;
    uint64_t rates = 0, bursts = 0;
    for (uint32_t i = 0; i < table.highWater(); ++i) {
      const LevelReading r = table.levelOf(i, now);
      // A debt makes no room for others.
      levels += std::max<int64_t>(0, r.level);
      rates += r.rate;
      bursts += r.burst + r.deposit;
    }
    CHECK_LE(rates, rate);
    CHECK_LE(bursts, burst);
    CHECK_LE(levels, static_cast<int64_t>(burst));
    CHECK_LE(granted + levels, static_cast<int64_t>(burst) + accrued(rate, now - startNs) + table.highWater());
  }
};

template <template <class> class Atomic>
Explorer::Result exploring(uint64_t rate, uint64_t burst, int preemptions, const std::function<Explorer::Script(Stage<Atomic>&)>& make) {
  Explorer explorer;
  std::shared_ptr<Stage<Atomic>> stage;
  const auto result = explorer.explore(
      [&] {
        stage = std::make_shared<Stage<Atomic>>(rate, burst);
        Explorer::Script script = make(*stage);
        const auto also = script.always;
        script.always = [&s = *stage, also] {
          s.laws();
          also();
        };
        return script;
      },
      // The long form: one more, and some ten million runs for each of the larger scripts.
      preemptions + (harness::scale() > 1 ? 1 : 0) - (harness::sanitized ? 1 : 0), harness::scale() > 1 ? 200000000 : 5000000);
  return result;
}

// Explores the faithful table, which must never fail.
void holds(uint64_t rate, uint64_t burst, int preemptions, const std::function<Explorer::Script(Stage<Stepped>&)>& make) {
  const auto result = exploring<Stepped>(rate, burst, preemptions, make);
  harness::context() = std::to_string(result.runs) + " runs, " + std::to_string(result.failures) + " failed, first: " + result.first;
  if (std::getenv("FORETOKEN_TEST_VERBOSE")) std::fprintf(stderr, "%" PRIu64 " runs, %d s\n", result.runs, static_cast<int>(clock() / CLOCKS_PER_SEC));
  CHECK_EQ(result.failures, 0u);
  CHECK(result.complete);
  CHECK(result.runs > 10);
}

// Two threads in one target's line, with a ticket for 7 each, both shown. The first shows life for a second only.
struct InLine {
  Stage<Stepped>& s;
  uint32_t seats[2];
  uint64_t tickets[2];
  bool served[2] = {false, false};

  explicit InLine(Stage<Stepped>& stage) : s(stage) {
    for (uint32_t i : {0u, 1u}) {
      seats[i] = s.table.takeSeat();
      s.table.showLife(seats[i], i ? 100 * kSecond : kSecond);
      tickets[i] = s.table.joinLine(s.a, 7);
      look(i);
    }
  }
  void look(uint32_t i) {
    if (served[i]) return;
    uint64_t ahead = 0;
    const int32_t decision = s.table.acquireInLine(s.a, seats[i], tickets[i], 7, s.time.load(std::memory_order_seq_cst), 50 * kSecond, ahead);
    served[i] = decision == kOwn;
    if (served[i]) s.granted += 7;
  }
  void leave(uint32_t i) { s.table.leaveLine(s.a.index, seats[i], s.time.load(std::memory_order_seq_cst)); }
};

// The scripts that planted bugs must be found by, for any atomic.
template <template <class> class Atomic>
Explorer::Script lastTokens(Stage<Atomic>& s) {
  s.open({0, 0}, {50, 50}, {10, 0}, false);
  // What the table holds in all is what the law allows for in this script.
  s.granted = static_cast<int64_t>(s.burst) - 10 - s.table.levelOf(0, 1).level;
  const int64_t before = s.granted;
  return {{[&s] { s.acquire(s.a, 7); }, [&s] { s.acquire(s.a, 7); }}, [] {}, [&s, before] {
            CHECK_EQ(s.granted - before, 7);
            CHECK_EQ(s.table.counters(1).admitted, 1u);
            CHECK_EQ(s.table.counters(1).denied, 1u);
            CHECK_EQ(s.table.levelOf(1, 1).level, 3);
          }};
}

template <template <class> class Atomic>
Explorer::Script rateCut(Stage<Atomic>& s) {
  // Drained at 0 s. At 10 s the rate is cut to nothing, so 20 seconds later there is what 10 s brought.
  s.open({10, 0}, {100, 0}, {0, 0}, false);
  return {{[&s] {
             s.time.store(10 * kSecond + 1, std::memory_order_relaxed);
             s.allocate({0, 0}, {100, 0});
             s.time.store(30 * kSecond + 1, std::memory_order_relaxed);
           },
           [&s] {
             s.acquire(s.a, 60);
             s.acquire(s.a, 60);
           }},
          [] {},
          [&s] {
            CHECK_LE(s.granted, 100);
            CHECK_EQ(s.granted + s.table.levelOf(1, 30 * kSecond + 1).level, 100);
          }};
}

template <template <class> class Atomic>
Explorer::Script burstMoved(Stage<Atomic>& s) {
  // Burst and tokens move from one target to the reservoir while both ask.
  s.open({10, 10}, {50, 50}, {50, 50}, false);
  return {{[&s] {
             s.allocate({0, 20}, {20, 80});
             s.allocate({20, 0}, {60, 40});
           },
           [&s] { s.acquire(s.a, 30); }, [&s] { s.acquire(s.b, 45); }}};
}

template <template <class> class Atomic>
Explorer::Script cutTwice(Stage<Atomic>& s) {
  s.open({10, 10}, {50, 50}, {50, 50}, false);
  s.time.store(10 * kSecond + 1, std::memory_order_relaxed);
  return {{[&s] {
             s.allocate({5, 10}, {30, 50});
             s.allocate({0, 10}, {10, 50});
           },
           [&s] { s.acquire(s.a, 45); }}};
}

template <template <class> class Atomic>
Explorer::Script cutWhenFull(Stage<Atomic>& s) {
  s.open({10, 0}, {100, 0}, {100, 0}, false);
  s.time.store(10 * kSecond + 1, std::memory_order_relaxed);
  return {{[&s] { s.allocate({0, 0}, {100, 0}); }, [&s] { s.acquire(s.a, 60); }}, [] {}, [&s] {
            CHECK_EQ(s.granted, 60);
            CHECK_EQ(s.table.levelOf(1, 10 * kSecond + 1).level, 40);
          }};
}

}  // namespace

TEST("two requests for the last tokens: one gets them") { holds(0, 100, 4, lastTokens<Stepped>); }

TEST("three requests for tokens that are enough for two") {
  holds(0, 100, 2, [](Stage<Stepped>& s) -> Explorer::Script {
    s.open({0, 0}, {50, 0}, {15, 0}, false);
    const auto ask = [&s] { s.acquire(s.a, 7); };
    return {{ask, ask, ask}, [] {}, [&s] { CHECK_EQ(s.granted, 14); }};
  });
}

TEST("a refill is had once, whoever reads the clock when") {
  holds(10, 100, 3, [](Stage<Stepped>& s) -> Explorer::Script {
    s.open({10, 0}, {100, 0}, {0, 0}, false);
    const auto ask = [&s] { s.acquire(s.a, 6); };
    return {{[&s] { s.time.store(kSecond + 1, std::memory_order_relaxed); }, ask, ask}, [] {}, [&s] {
              CHECK_LE(s.granted, 10);
              CHECK_EQ(s.granted + s.table.levelOf(1, kSecond + 1).level, 10);
            }};
  });
}

TEST("a cut of the rate between two requests gives neither more than its time") { holds(10, 100, 2, rateCut<Stepped>); }

TEST("a change of the resource's rate brings what each rate brings in its time, whoever asks meanwhile") {
  for (const auto& [first, then] : {std::array<uint64_t, 2>{10, 1}, std::array<uint64_t, 2>{1, 10}})
    holds(10, 1000, 2, [first, then](Stage<Stepped>& s) -> Explorer::Script {
      s.open({0, 0}, {0, 0}, {0, 0}, true);
      Stage<Stepped>::must(s.table.setResource(first, 1000, s.clock()));
      CHECK_EQ(s.acquire(s.a, 1000), static_cast<int32_t>(kBorrowed));
      const auto ask = [&s] {
        s.acquire(s.a, 7);
        s.acquire(s.a, 60);
      };
      return {{[&s, then] {
                 s.time.store(10 * kSecond + 1, std::memory_order_relaxed);
                 Stage<Stepped>::must(s.table.setResource(then, 1000, s.clock()));
                 s.time.store(30 * kSecond + 1, std::memory_order_relaxed);
               },
               ask},
              [] {},
              [&s, first, then] {
                const int64_t brought = static_cast<int64_t>(10 * first + 20 * then);
                CHECK_EQ(s.granted - 1000 + s.table.levelOf(0, 30 * kSecond + 1).level, brought);
              }};
    });
}

TEST("bursts that move between two targets while both ask never add up to more") { holds(20, 100, 2, burstMoved<Stepped>); }

TEST("a burst that is cut twice is never had as it was before") { holds(20, 100, 2, cutTwice<Stepped>); }

TEST("a full bucket whose rate is cut is charged once") { holds(10, 100, 3, cutWhenFull<Stepped>); }

TEST("a deposit moves tokens while the reservoir and the bucket are asked") {
  holds(10, 100, 2, [](Stage<Stepped>& s) -> Explorer::Script {
    s.open({0, 0}, {10, 10}, {10, 10}, true);
    return {{[&s] { s.table.deposit(s.a, 50, 10 * kSecond, s.clock()); }, [&s] { s.acquire(s.a, 40); }, [&s] { s.acquire(s.b, 70); }}};
  });
}

TEST("a deposit is withdrawn while it is being used") {
  holds(0, 100, 2, [](Stage<Stepped>& s) -> Explorer::Script {
    s.open({0, 0}, {10, 10}, {10, 10}, true);
    s.table.deposit(s.a, 60, 10 * kSecond, s.clock());
    return {{[&s] { s.table.withdraw(s.a, s.clock()); }, [&s] { s.acquire(s.a, 40); }, [&s] { s.acquire(s.b, 75); }}};
  });
}

TEST("a deposit expires and is reclaimed while it is being used") {
  holds(10, 100, 2, [](Stage<Stepped>& s) -> Explorer::Script {
    s.open({5, 0}, {10, 10}, {10, 10}, true);
    s.table.deposit(s.a, 60, kSecond, s.clock());
    return {{[&s] {
               s.time.store(2 * kSecond, std::memory_order_relaxed);
               s.table.reclaimExpired(s.clock());
             },
             [&s] { s.acquire(s.a, 40); }, [&s] { s.acquire(s.b, 85); }}};
  });
}

TEST("a withdrawal and two requests leave every token either granted or in a bucket") {
  holds(0, 100, 2, [](Stage<Stepped>& s) -> Explorer::Script {
    s.open({0, 0}, {10, 10}, {10, 10}, false);
    s.table.deposit(s.a, 60, 10 * kSecond, s.clock());
    return {{[&s] { s.table.withdraw(s.a, s.clock()); }, [&s] { s.acquire(s.a, 30); }, [&s] { s.acquire(s.a, 5); }}, [] {}, [&s] {
              int64_t levels = 0;
              for (uint32_t i = 0; i < 3; ++i) levels += s.table.levelOf(i, 1).level;
              CHECK_EQ(s.granted + levels, 100);
            }};
  });
}

TEST("a tick hands out nothing that a request in between has taken") {
  holds(20, 100, 2, [](Stage<Stepped>& s) -> Explorer::Script {
    s.open({10, 10}, {40, 40}, {40, 40}, true);
    s.table.tick(2, s.clock());
    s.memory.header().largestCost.store(1, std::memory_order_relaxed);
    return {{[&s] {
               s.time.store(kSecond + 1, std::memory_order_relaxed);
               s.table.tick(2, s.clock());
             },
             [&s] { s.acquire(s.a, 50); }, [&s] { s.acquire(s.b, 15); }}};
  });
}

TEST("what is borrowed during a tick counts in the next") {
  holds(20, 200, 2, [](Stage<Stepped>& s) -> Explorer::Script {
    s.open({0, 20}, {40, 40}, {0, 40}, true);
    s.table.tick(1, s.clock());
    s.time.store(kSecond + 1, std::memory_order_relaxed);
    return {{[&s] {
               s.table.tick(1, s.clock());
               s.time.store(2 * kSecond + 1, std::memory_order_relaxed);
               s.table.tick(1, s.clock());
             },
             [&s] {
               s.acquire(s.a, 15);
               s.acquire(s.a, 15);
             }}};
  });
}

TEST("a refund during a tick is not handed out twice") {
  holds(20, 100, 2, [](Stage<Stepped>& s) -> Explorer::Script {
    s.open({0, 20}, {40, 40}, {40, 40}, true);
    s.acquire(s.a, 20);
    s.table.tick(2, s.clock());
    s.time.store(kSecond + 1, std::memory_order_relaxed);
    return {{[&s] { s.table.tick(2, s.clock()); }, [&s] { s.refund(s.a, 20); }, [&s] { s.acquire(s.b, 60); }}};
  });
}

TEST("a promise lapses, is seen to lapse, and is renewed, in any order") {
  holds(100, 100, 3, [](Stage<Stepped>& s) -> Explorer::Script {
    s.open({90, 10}, {90, 10}, {0, 0}, false, kSecond);
    Stage<Stepped>::must(s.table.setFallback(s.a, 10, 10, s.clock()));
    Stage<Stepped>::must(s.table.setFallback(s.b, 90, 90, s.clock()));
    return {{[&s] { s.time.store(2 * kSecond + 1, std::memory_order_relaxed); },
             [&s] {
               bool resumed = false;
               s.table.extendValidity(10 * kSecond, resumed, s.clock());
             },
             [&s] {
               s.acquire(s.a, 85);
               s.acquire(s.b, 85);
             }}};
  });
}

TEST("a lapse overtakes an allocation") {
  holds(100, 100, 2, [](Stage<Stepped>& s) -> Explorer::Script {
    s.open({10, 10}, {10, 10}, {0, 0}, false, kSecond);
    Stage<Stepped>::must(s.table.setFallback(s.a, 50, 50, s.clock()));
    Stage<Stepped>::must(s.table.setFallback(s.b, 50, 50, s.clock()));
    return {{[&s] { s.time.store(3 * kSecond + 1, std::memory_order_relaxed); }, [&s] { s.allocate({90, 5}, {90, 5}); }, [&s] { s.acquire(s.a, 80); }}};
  });
}

TEST("a lapse overtakes a change of the fallbacks") {
  holds(100, 100, 2, [](Stage<Stepped>& s) -> Explorer::Script {
    s.open({10, 10}, {10, 10}, {0, 0}, true, kSecond);
    Stage<Stepped>::must(s.table.setFallback(s.a, 50, 50, s.clock()));
    return {{[&s] { s.time.store(3 * kSecond + 1, std::memory_order_relaxed); },
             [&s] { Stage<Stepped>::must(s.table.setFallback(s.a, 90, 90, s.clock())); },
             [&s] {
               s.acquire(s.b, 60);
               s.acquire(s.a, 60);
             }}};
  });
}

TEST("a request of a target that is being removed does not reach the slot's next owner") {
  holds(0, 100, 3, [](Stage<Stepped>& s) -> Explorer::Script {
    s.open({0, 0}, {30, 30}, {30, 30}, true);
    Slot third{};
    Stage<Stepped>::must(s.table.addTarget(0, third, s.clock()));
    auto next = std::make_shared<Slot>();
    return {{[&s, next] {
               s.table.removeTarget(s.a, s.clock());
               Stage<Stepped>::must(s.table.addTarget(0, *next, s.clock()));
               s.allocate({0, 0}, {30, 30});
               s.table.deposit(*next, 20, 10 * kSecond, s.clock());
             },
             [&s] { s.acquire(s.a, 15); }},
            [] {},
            [&s, next] {
              CHECK_EQ(next->index, s.a.index);
              CHECK_EQ(s.table.levelOf(next->index, 1).level, 20);
              CHECK_EQ(s.table.acquire(s.a, 1, 1), static_cast<int32_t>(kBadHandle));
            }};
  });
}

TEST("a borrower that is removed meanwhile leaves the list of freed slots whole") {
  holds(0, 100, 3, [](Stage<Stepped>& s) -> Explorer::Script {
    s.open({0, 0}, {10, 10}, {10, 10}, true);
    Slot third{};
    Stage<Stepped>::must(s.table.addTarget(0, third, s.clock()));
    s.table.setBorrowShare(1, 1000);
    return {{[&s] {
               s.table.removeTarget(s.a, s.clock());
               s.table.removeTarget(s.b, s.clock());
             },
             [&s] {
               s.acquire(s.a, 90);
               s.acquire(s.a, 25);
             }},
            [] {},
            [&s] {
              Slot one{}, two{}, none{};
              Stage<Stepped>::must(s.table.addTarget(0, one, s.clock()));
              Stage<Stepped>::must(s.table.addTarget(0, two, s.clock()));
              CHECK_EQ(one.index, s.a.index);
              CHECK_EQ(two.index, s.b.index);
              CHECK_EQ(static_cast<int>(s.table.addTarget(0, none, s.clock())), static_cast<int>(kFull));
            }};
  });
}

TEST("leases, what they spent and their return never come to more than the bucket held") {
  holds(10, 200, 2, [](Stage<Stepped>& s) -> Explorer::Script {
    s.open({10, 0}, {160, 0}, {160, 0}, false);
    // Two threads lease, spend a part and give the rest back; a third asks when the bucket has had long to refill. From
    // then on all that is granted and all that is left must fit into the resource's burst.
    s.startNs = 100 * kSecond + 1;
    auto all = std::make_shared<int64_t>(0);
    const auto lease = [&s, all](uint64_t spent) {
      return [&s, all, spent] {
        Table<Stepped> mine = s.table;
        if (!mine.claimLane(s.time.load(std::memory_order_seq_cst))) return;
        Table<Stepped>::Lease got{};
        mine.lease(s.a, {0, 0, 0}, 10, 1, s.time.load(std::memory_order_seq_cst), got);
        const uint64_t used = std::min(spent, got.units);
        *all += static_cast<int64_t>(used);
        if (s.time.load(std::memory_order_seq_cst) >= s.startNs) s.granted += static_cast<int64_t>(used);
        mine.lease(s.a, {got.units, got.units - used, used}, 0, 0, s.time.load(std::memory_order_seq_cst), got);
      };
    };
    return {{lease(4), lease(10), [&s, all] {
               s.time.store(100 * kSecond + 1, std::memory_order_relaxed);
               if (s.acquire(s.a, 145) > 0) *all += 145;
             }},
            [] {},
            [&s, all] {
              CHECK_EQ(s.table.leasedOf(1), 0);
              CHECK_EQ(static_cast<int64_t>(s.table.counters(1).admittedTokens), *all);
            }};
  });
}

// A lease of 10 out of a burst of 160, whose target has a burst of 4 once the promise has lapsed and the other one all the
// rest. From kFullNs on everything would be full, had the fallbacks held since the promise ran out; so all that is granted
// from then on and all that is left must fit into the resource's burst.
template <template <class> class Atomic>
struct LeasedOf {
  static constexpr uint64_t kEndNs = 10 * kSecond, kFullNs = 1000 * kSecond;
  Stage<Atomic>& s;
  Table<Atomic> mine;
  typename Table<Atomic>::Lease got{};

  explicit LeasedOf(Stage<Atomic>& stage, uint64_t promiseNs = kEndNs) : s(stage), mine(stage.table) {
    s.open({0, 0}, {160, 0}, {160, 0}, false, promiseNs);
    Stage<Atomic>::must(s.table.setFallback(s.a, 0, 4, s.clock()));
    Stage<Atomic>::must(s.table.setFallback(s.b, 10, 190, s.clock()));
    s.startNs = kFullNs;
    mine.claimLane(1);
  }
  void lease() { mine.lease(s.a, {got.units, got.units, 0}, 10, 1, s.time.load(std::memory_order_seq_cst), got); }
  // As a thread does: it looks at the words, and then it has spent. What it looked at before a time was spent before it.
  void spend(uint64_t units) {
    const uint64_t now = s.time.load(std::memory_order_seq_cst);
    const bool spendable = static_cast<uint32_t>(s.memory.header().validUntil.load(std::memory_order_seq_cst)) == got.promise &&
                           Word{s.memory.bucket(1).word.load(std::memory_order_seq_cst)}.epoch() == got.epoch;
    if (!spendable || got.units < units) return;
    got.units -= units;
    if (now >= s.startNs) s.granted += static_cast<int64_t>(units);
  }
  // Somebody asks for all that the other target may come to have.
  void ask() { s.acquire(s.b, 190); }
};
using Leased = LeasedOf<Stepped>;

// One leases, before or meanwhile, and spends; the promise runs out, and two others ask.
template <template <class> class Atomic>
Explorer::Script lapseBesideLease(Stage<Atomic>& s, bool before) {
  const auto leased = std::make_shared<LeasedOf<Atomic>>(s);
  if (before) leased->lease();
  return {{[leased, before] {
             if (!before) leased->lease();
             leased->spend(6);
             leased->spend(4);
           },
           [&s, leased] {
             s.time.store(Leased::kEndNs + 2 * kSecond, std::memory_order_relaxed);
             leased->ask();
           },
           [&s, leased] {
             s.time.store(Leased::kFullNs, std::memory_order_relaxed);
             leased->ask();
             leased->ask();
           }}};
}

TEST("a lease is not spent beside what others have after a lapse, whoever notices it when") {
  for (const bool before : {true, false}) holds(10, 200, 2, [before](Stage<Stepped>& s) { return lapseBesideLease(s, before); });
}

TEST("whoever dates a lapse knows that somebody leases, however late other stores are seen") {
  const auto found = exploring<schedule::Late>(10, 200, 2, [](Stage<schedule::Late>& s) { return lapseBesideLease(s, false); });
  harness::context() = std::to_string(found.failures) + " failed, first: " + found.first;
  CHECK_EQ(found.failures, 0u);
  CHECK(found.complete);
}

TEST("a lease is not spent after a promise that lapsed was renewed") {
  holds(10, 200, 2, [](Stage<Stepped>& s) -> Explorer::Script {
    const auto leased = std::make_shared<Leased>(s);
    leased->lease();
    return {{[leased] {
               leased->spend(6);
               leased->spend(4);
             },
             [&s] {
               s.time.store(Leased::kFullNs, std::memory_order_relaxed);
               bool resumed = false;
               s.table.extendValidity(Leased::kFullNs + 10 * kSecond, resumed, s.clock());
               s.allocate({0, 10}, {10, 190});
               s.time.store(3 * Leased::kFullNs, std::memory_order_relaxed);
               s.startNs = 3 * Leased::kFullNs;
               s.granted = 0;
               s.acquire(s.b, 190);
             },
             [leased] { leased->ask(); }}};
  });
}

TEST("a lease is not held on to beside what others have by then, whenever its target's burst is cut and raised again") {
  holds(10, 200, 2, [](Stage<Stepped>& s) -> Explorer::Script {
    const auto leased = std::make_shared<Leased>(s, 10 * Leased::kFullNs);
    leased->lease();
    return {{[leased] {
               leased->lease();
               leased->spend(leased->got.units);
             },
             [&s] {
               s.allocate({0, 10}, {0, 200});
               s.time.store(Leased::kFullNs, std::memory_order_relaxed);
               s.acquire(s.b, 200);
               s.allocate({0, 0}, {160, 0});
             }}};
  });
}

TEST("what is leased out of a deposit does not come back with it, whenever it is spent, settled and reclaimed") {
  holds(10, 200, 2, [](Stage<Stepped>& s) -> Explorer::Script {
    const auto leased = std::make_shared<Leased>(s, 10 * Leased::kFullNs);
    s.allocate({10, 0}, {4, 0});
    s.table.deposit(s.a, 140, 5 * kSecond, s.clock());
    leased->lease();
    s.table.setMayBorrow(s.b, true);
    return {{[leased] {
               leased->spend(leased->got.units);
               leased->lease();
             },
             [&s] {
               s.time.store(Leased::kFullNs, std::memory_order_relaxed);
               s.table.reclaimExpired(s.clock());
               s.acquire(s.b, 190);
             }}};
  });
}

TEST("a burst that is cut below what is on lease leaves a debt and no tokens") {
  holds(0, 200, 2, [](Stage<Stepped>& s) -> Explorer::Script {
    s.open({0, 0}, {160, 0}, {160, 0}, false);
    return {{[&s] { s.allocate({0, 0}, {4, 100}); },
             [&s] {
               Table<Stepped> mine = s.table;
               if (!mine.claimLane(1)) return;
               Table<Stepped>::Lease got{};
               mine.lease(s.a, {0, 0, 0}, 10, 1, 1, got);
               s.granted += static_cast<int64_t>(got.units);
               mine.lease(s.a, {got.units, 0, got.units}, 0, 0, 1, got);
             },
             [&s] { s.acquire(s.a, 3); }}};
  });
}

TEST("a mode that changes while it is asked: every request is charged whole, denied, or admitted without tokens") {
  for (const Mode mode : {Mode::kShadow, Mode::kOff})
    holds(0, 100, 2, [mode](Stage<Stepped>& s) -> Explorer::Script {
      s.open({0, 0}, {50, 50}, {10, 0}, false);
      s.granted = static_cast<int64_t>(s.burst) - 10 - s.table.levelOf(0, 1).level;
      const int64_t before = s.granted;
      auto uncharged = std::make_shared<uint64_t>(0);
      const auto ask = [&s, uncharged] { *uncharged += s.acquire(s.a, 7) == kUncharged; };
      return {{ask, ask,
               [&s, mode] {
                 Stage<Stepped>::must(s.table.setMode(s.a, mode, 1));
                 Stage<Stepped>::must(s.table.setMode(s.a, Mode::kEnforce, 1));
               }},
              [] {},
              [&s, uncharged, before] {
                const Counters c = s.table.counters(1);
                CHECK_EQ(s.granted - before + s.table.levelOf(1, 1).level, 10);
                CHECK_EQ(static_cast<int64_t>(c.admittedTokens), s.granted - before);
                CHECK_EQ(c.passed + c.unmetered, *uncharged);
                CHECK_EQ(c.admitted + c.denied + c.unmetered, 2u);
                CHECK_LE(c.passed, c.denied);
                CHECK_EQ(c.passedTokens + c.unmeteredTokens, 7 * *uncharged);
              }};
    });
}

TEST("a target that is switched off while it is leased has nothing on lease, and nothing twice") {
  holds(0, 200, 2, [](Stage<Stepped>& s) -> Explorer::Script {
    s.open({0, 0}, {160, 0}, {160, 0}, false);
    auto spent = std::make_shared<int64_t>(0);
    return {{[&s] { Stage<Stepped>::must(s.table.setMode(s.a, Mode::kOff, 1)); },
             [&s, spent] {
               Table<Stepped> mine = s.table;
               if (!mine.claimLane(1)) return;
               Table<Stepped>::Lease got{};
               mine.lease(s.a, {0, 0, 0}, 10, 1, 1, got);
               const uint64_t used = std::min<uint64_t>(got.units, 4);
               *spent = static_cast<int64_t>(used);
               s.granted += *spent;
               mine.lease(s.a, {got.units, got.units - used, used}, 10, 1, 1, got);
               *spent += static_cast<int64_t>(got.units);
               s.granted += static_cast<int64_t>(got.units);
               mine.lease(s.a, {got.units, 0, got.units}, 0, 0, 1, got);
             }},
            [] {},
            [&s, spent] {
              CHECK_EQ(s.table.leasedOf(1), 0);
              CHECK_EQ(static_cast<int64_t>(s.table.counters(1).admittedTokens), *spent);
              // A lease that is raised while the epoch changes may cost as much as it would have held.
              CHECK_LE(s.table.levelOf(1, 1).level, 160 - *spent);
            }};
  });
}

TEST("no later ticket and no newcomer gets what an earlier ticket needs, whoever looks when tokens come") {
  holds(0, 100, 2, [](Stage<Stepped>& s) -> Explorer::Script {
    s.open({0, 0}, {50, 0}, {0, 0}, false);
    const auto line = std::make_shared<InLine>(s);
    return {{[&s] { s.table.deposit(s.a, 10, 10 * kSecond, s.clock()); }, [line] { line->look(0); }, [line, &s] {
               line->look(1);
               s.acquire(s.a, 1);
             }},
            [line, &s] {
              CHECK(!line->served[1]);
              CHECK_EQ(s.table.counters(1).borrowedTokens, 0u);
            },
            [line, &s] {
              // Nobody is stuck: the first goes on, and then the second as soon as there is enough for it.
              line->look(0);
              CHECK(line->served[0]);
              line->leave(0);
              line->look(1);
              CHECK(!line->served[1]);
              s.table.deposit(s.a, 10, 10 * kSecond, s.clock());
              CHECK_EQ(s.acquire(s.a, 1), static_cast<int32_t>(kDenied));
              line->look(1);
              CHECK(line->served[1]);
              line->leave(1);
              CHECK_EQ(s.acquire(s.a, 1), static_cast<int32_t>(kOwn));
              // Those who waited count as admitted, the newcomers as denied.
              CHECK_EQ(s.table.counters(1).admitted, 3u);
              CHECK_EQ(s.table.counters(1).denied, 2u);
            }};
  });
}

TEST("one who gives up, and one whose thread has died, hold up nobody behind them") {
  for (const bool dies : {false, true})
    holds(0, 100, 2, [dies](Stage<Stepped>& s) -> Explorer::Script {
      s.open({0, 0}, {50, 0}, {0, 0}, false);
      const auto line = std::make_shared<InLine>(s);
      s.table.deposit(s.a, 10, 10 * kSecond, s.clock());
      return {{[line, &s, dies] {
                 if (dies) s.time.store(2 * kSecond, std::memory_order_relaxed);
                 else line->leave(0);
               },
               [line] { line->look(1); }},
              [] {},
              [line] {
                line->look(1);
                CHECK(line->served[1]);
                CHECK(!line->served[0]);
              }};
    });
}

TEST("two writers take turns, and a request goes on beside them") {
  holds(20, 100, 2, [](Stage<Stepped>& s) -> Explorer::Script {
    s.open({10, 5}, {20, 20}, {20, 20}, true);
    return {{[&s] { s.table.deposit(s.a, 30, 10 * kSecond, s.clock()); }, [&s] { s.table.deposit(s.b, 40, 10 * kSecond, s.clock()); },
             [&s] { s.acquire(s.b, 55); }}};
  });
}

TEST("the explorer finds a compare-exchange that is not one") {
  const auto found = exploring<schedule::Torn>(0, 100, 2, lastTokens<schedule::Torn>);
  CHECK(found.failures > 0);
}

TEST("the explorer finds parameters that are published after the word that names them") {
  const auto found = exploring<schedule::Reordered>(20, 100, 2, cutTwice<schedule::Reordered>);
  CHECK(found.failures > 0);
}

TEST("the explorer finds an admission that mixes two versions of the parameters") {
  const auto found = exploring<schedule::Epochless>(10, 100, 2, cutWhenFull<schedule::Epochless>);
  CHECK(found.failures > 0);
}

int main(int argc, char** argv) {
  // Fibers and this sanitizer do not know of each other, and there is but one thread to watch.
  if (harness::threadSanitized) {
    std::printf("skipped: one thread of fibers has nothing for this sanitizer\n0 passed, 0 failed\n");
    return 0;
  }
  return harness::main(argc, argv);
}
#endif
