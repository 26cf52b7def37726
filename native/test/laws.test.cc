// The laws of the table under random operations, each held against an exact reference after every step.
#include "world.h"

using namespace foretoken;
using harness::Random;

namespace {

struct Profile {
  unsigned rateBits;   // magnitude of the resource's rate and burst, units
  unsigned leapBits;   // magnitude of the steps in time, ns
  bool late;           // requests with old readings of the clock
  uint64_t steps;
  bool leases = true;
};

// Rates or bursts of all slots, together at most `whole`, sometimes with nothing left over.
std::vector<uint64_t> divide(Random& r, uint64_t whole, size_t parts) {
  std::vector<uint64_t> out(parts, 0);
  uint64_t left = whole;
  for (size_t n = 0; n < parts * 2 && left; ++n) {
    const uint64_t part = r.oneIn(4) ? left : r.below(left + 1);
    uint64_t& slot = out[r.below(parts)];
    slot += decode(encode(part));
    left -= decode(encode(part));
  }
  for (uint64_t& v : out) v = decode(encode(v));
  return out;
}

void step(World& w, Random& r, const Profile& profile) {
  std::vector<uint32_t> live;
  for (const auto& [i, t] : w.targets) live.push_back(i);
  const uint64_t op = r.below(110);
  const auto note = [](const char* name) { harness::context() += std::string(" ") + name; };
  if (live.empty() || op < 2) {
    note("add");
    w.add(r.oneIn(2));
    return;
  }
  const uint32_t i = live[r.below(live.size())];
  const uint64_t burst = w.resourceBurst(), rate = w.resourceRate();
  if (op < 45) {
    note("acquire");
    const LevelReading own = w.table.levelOf(i, w.now()), pool = w.table.levelOf(0, w.now());
    uint64_t cost = 1;
    switch (r.below(6)) {
      case 0: cost = static_cast<uint64_t>(std::max<int64_t>(1, own.level + static_cast<int64_t>(r.below(3)) - 1)); break;
      case 1: cost = static_cast<uint64_t>(std::max<int64_t>(1, pool.level + static_cast<int64_t>(r.below(3)) - 1)); break;
      case 2: cost = 1 + r.magnitude(54); break;
      default: cost = 1 + r.below(burst / 8 + 1); break;
    }
    w.acquire(i, cost, profile.late && r.oneIn(2) ? r.magnitude(profile.leapBits) : 0, r.oneIn(8));
  } else if (op < 60) {
    note("advance");
    w.advance(r.magnitude(profile.leapBits));
  } else if (op < 64) {
    note("refund");
    const auto& t = w.targets.at(i);
    w.refund(i, 1 + r.below(r.oneIn(4) ? burst : t.refundable + 1));
  } else if (op < 67 && !profile.late) {
    note("charge");
    w.charge(i, 1 + r.below(r.oneIn(4) ? burst * 2 : burst / 8 + 1));
  } else if (op < 72) {
    note("deposit");
    w.deposit(i, 1 + r.below(r.oneIn(4) ? burst * 2 : burst / 4 + 1), r.magnitude(profile.leapBits));
  } else if (op < 74) {
    note("withdraw");
    w.withdraw(i);
  } else if (op < 76) {
    note("reclaim");
    w.reclaim();
  } else if (op < 82) {
    note("tick");
    // A sequence of its own for the controller's clock, so that the operations of a seed stay what they were.
    Random clocks(w.now());
    w.tick(clocks.oneIn(4) ? clocks.magnitude(profile.leapBits) : 0);
    w.setStock(clocks.oneIn(2) ? clocks.below(burst + 1) : 0);
    for (const uint32_t k : live) w.setShare(k, r.below(burst + 1), clocks.oneIn(2));
  } else if (op < 88) {
    note("allocate");
    const uint32_t count = static_cast<uint32_t>(r.oneIn(4) ? 1 + r.below(w.table.highWater()) : w.table.highWater());
    const bool over = r.oneIn(8);
    const auto rates = divide(r, over ? rate * 2 : rate, count), bursts = divide(r, over ? burst * 2 : burst, count);
    std::vector<Tab::Share> shares(count);
    for (uint32_t k = 0; k < count; ++k) shares[k] = {encode(rates[k]), encode(bursts[k])};
    w.allocate(shares, r.oneIn(2));
  } else if (op < 90) {
    note("setFallback");
    w.setFallback(i, r.below(rate / 2 + 2), r.below(burst / 2 + 2));
  } else if (op < 91) {
    note("setFallbacks");
    const uint32_t count = w.table.highWater();
    const auto rates = divide(r, rate, count), bursts = divide(r, burst, count);
    std::vector<Tab::Share> shares(count);
    for (uint32_t k = 0; k < count; ++k) shares[k] = {encode(rates[k]), encode(bursts[k])};
    w.setFallbacks(shares);
  } else if (op < 95) {
    note("extend");
    w.extend(r.oneIn(20) ? r.magnitude(62) : r.magnitude(profile.leapBits + 2));
  } else if (op < 96) {
    note("setResource");
    w.setResource(1 + r.below(rate + rate / 2 + 1), 1 + r.below(burst + burst / 2 + 1));
  } else if (op < 97) {
    note("setLimit");
    w.setLimit(i, r.below(rate + 1), r.oneIn(3) ? 0 : 1 + r.below(burst + 1));
  } else if (op < 98) {
    note("remove");
    w.remove(i);
  } else if (op < 99) {
    note("stale");
    if (!w.stale.empty()) w.useStale(w.stale[r.below(w.stale.size())], 1 + r.below(burst));
    w.useStale({static_cast<uint32_t>(r.below(40)), static_cast<uint32_t>(1000 + r.below(1u << 28))}, 1);
    w.useStale({0, 0}, 1);
  } else if (op < 106 && !profile.late) {
    note("spend");
    const auto holder = static_cast<uint32_t>(r.below(World::kHolders));
    w.spend(holder, i, 1 + r.below(r.oneIn(2) ? burst / 16 + 1 : 3));
  } else if (op < 109 && !profile.late) {
    note("lease");
    const auto holder = static_cast<uint32_t>(r.below(World::kHolders));
    const uint64_t want = r.oneIn(4) ? 0 : r.below(r.oneIn(4) ? burst * 2 : burst / 8 + 1);
    const uint64_t least = r.oneIn(4) ? r.below(want + 1) : 1;
    if (profile.leases) w.lease(holder, i, want, least);
    if (r.oneIn(2)) w.spend(holder, i, 1 + r.below(burst / 64 + 1));
  } else if (op < 109 || r.oneIn(2)) {
    note("setMode");
    w.setMode(i, std::array{Mode::kEnforce, Mode::kEnforce, Mode::kShadow, Mode::kOff}[r.below(4)]);
  } else {
    note("waitInLine");
    w.waitInLine(i, r.oneIn(2) ? 0 : w.now() + r.magnitude(profile.leapBits));
  }
}

void explore(Profile profile, uint64_t seeds, uint64_t firstSeed) {
  firstSeed += harness::seedBase();
  for (uint64_t seed = firstSeed; seed < firstSeed + seeds; ++seed) {
    Random r(seed);
    // Where nobody ever leases, nobody has to notice a lapse.
    profile.leases = seed % 4 != 0;
    const uint64_t rate = 1 + r.magnitude(profile.rateBits), burst = 1 + r.magnitude(profile.rateBits);
    harness::context() = "seed " + std::to_string(seed);
    World w(static_cast<uint32_t>(1 + r.below(6)), rate, burst);
    w.late = profile.late;
    for (uint64_t n = 0; n < profile.steps; ++n) {
      harness::context() = "seed " + std::to_string(seed) + " step " + std::to_string(n);
      step(w, r, profile);
      w.check();
    }
    w.checkWhole();
  }
}

}  // namespace

TEST("the laws hold for token amounts as they are, in steps of milliseconds to minutes") {
  explore({34, 36, false, 400}, harness::runs(600), 1);
}

TEST("the laws hold where a token is a single unit") {
  explore({8, 34, false, 400}, harness::runs(400), 100000);
}

TEST("the laws hold for the largest rates and bursts and for leaps of years") {
  explore({53, 60, false, 300}, harness::runs(300), 200000);
}

TEST("the laws hold for common rates and leaps of years, in which a level's reference wanders out of range") {
  explore({34, 58, false, 300}, harness::runs(300), 300000);
}

TEST("the resource law holds when requests come with old readings of the clock") {
  explore({34, 36, true, 400}, harness::runs(300), 400000);
}

HARNESS_MAIN
