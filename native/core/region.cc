#include "region.h"

#include "process.h"

#include <sys/mman.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cmath>
#include <mutex>
#include <unordered_map>

namespace foretoken {

namespace {

// Above this a region asks for huge pages: at random over a million targets most of the time goes into
// translating addresses. Below it they would only waste memory.
constexpr uint64_t kHugeFrom = 32ull << 20;

std::mutex registryMutex;
std::unordered_map<std::string, std::weak_ptr<Region>>& registry() {
  static auto* map = new std::unordered_map<std::string, std::weak_ptr<Region>>();
  return *map;
}
uint64_t nextToken = 1;

uint64_t clampUnits(double units) noexcept {
  if (!(units > 0)) return 0;
  return units < static_cast<double>(kLevelLimit) ? static_cast<uint64_t>(units) : static_cast<uint64_t>(kLevelLimit);
}

// Long enough for a reading of either clock (30 ns) to be a few millionths of it.
constexpr uint64_t kCalibrationNs = 8000000;
// What the measurement may be off by, in millionths, with room.
constexpr uint64_t kCalibrationPpm = 20;

uint64_t calibrate() noexcept {
  const uint64_t fromNs = monotonicNs();
  const uint64_t fromTicks = readTsc();
  uint64_t toNs = fromNs;
  while (toNs - fromNs < kCalibrationNs) toNs = monotonicNs();
  const uint64_t ticks = readTsc() - fromTicks;
  if (ticks == 0) return 0;
  const auto exact = (static_cast<unsigned __int128>(toNs - fromNs) << 32) / ticks;
  return exact >> 32 ? 0 : static_cast<uint64_t>(exact - exact * kCalibrationPpm / 1000000);
}

}  // namespace

bool hasInvariantTsc() noexcept {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(0x80000007u, &a, &b, &c, &d) && (d & (1u << 8));
#else
  return false;
#endif
}

uint64_t tscMultiplier() noexcept {
  static const uint64_t measured = calibrate();
  return measured;
}

int tokenShiftFor(double rate, double burst) noexcept {
  const auto exponentOf = [](double v) {
    int exponent = 0;
    std::frexp(std::max(v, 1e-9), &exponent);
    return exponent;
  };
  const int fast = std::clamp(33 - exponentOf(std::max(rate, burst)), 0, 33);
  const int fine = std::clamp(std::min(24 - exponentOf(burst), 50 - exponentOf(rate)), 0, 33);
  return std::max(fast, fine);
}

void Region::lay(const RegionOptions& options, uint64_t directoryBytes) noexcept {
  const Offsets o = offsetsFor(options.capacity, options.areaBytes, directoryBytes);
  auto* header = new (base_) PlainHeader();
  header->magic = kMagic;
  header->abi = kAbi;
  header->headerBytes = kHeaderBytes;
  header->capacity = options.capacity;
  header->clockKind = options.clock;
  if (options.clock == ClockKind::kTsc) {
    header->tscMultiplier = tscMultiplier();
    header->tscOrigin = readTsc();
  }
  header->originNs = options.clock == ClockKind::kVirtual ? 0 : monotonicNs();
  header->tokenShift = tokenShiftFor(options.rate, options.burst);
  header->bucketBytes = sizeof(PlainBucket);
  header->regionBytes = o.total;
  header->directoryBytes = directoryBytes;
  header->areaOffset = o.area;
  header->areaBytes = options.areaBytes;
  header->pidSpace = directoryBytes ? pidSpace() : 0;
  locate();
  table_.initialise(rateUnits(options.rate), units(options.burst), clock()());
  // release [ready]: whoever sees the ABI's number sees everything above.
  header->ready.store(kAbi, std::memory_order_release);
}

void Region::locate() noexcept {
  header_ = reinterpret_cast<PlainHeader*>(base_);
  const Offsets o = offsetsFor(header_->capacity, header_->areaBytes, header_->directoryBytes);
  unitsPerToken_ = std::ldexp(1.0, header_->tokenShift);
  directory_ = o.directory;
  Sharing<PlainHeader> sharing;
  sharing.self = ownIdentity();
  // Threads of one process do not die without their process: what they hold they also let go of.
  if (isNamed()) sharing.isGone = isProcessGone;
  sharing.now = [](const PlainHeader& header) { return RegionClock{&header}(); };
  table_ = PlainTable::at(base_, sharing);
}

std::shared_ptr<Region> Region::create(const RegionOptions& options) {
  const Offsets o = offsetsFor(options.capacity, options.areaBytes);
  void* memory = mmap(nullptr, o.total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
#if defined(MADV_HUGEPAGE)
  if (o.lanes > kHugeFrom) madvise(memory, o.limits, MADV_HUGEPAGE);
#endif
  std::shared_ptr<Region> region(new Region());
  region->base_ = static_cast<uint8_t*>(memory);
  region->bytes_ = o.total;
  region->lay(options, 0);
  return remember(std::move(region));
}

std::shared_ptr<Region> Region::remember(std::shared_ptr<Region> region) {
  const std::lock_guard<std::mutex> guard(registryMutex);
  region->token_ = "foretoken-" + std::to_string(nextToken++);
  registry()[region->token_] = region;
  return region;
}

std::shared_ptr<Region> Region::find(const std::string& token) {
  const std::lock_guard<std::mutex> guard(registryMutex);
  const auto found = registry().find(token);
  return found == registry().end() ? nullptr : found->second.lock();
}

Region::~Region() {
  {
    const std::lock_guard<std::mutex> guard(registryMutex);
    registry().erase(token_);
  }
  if (isNamed()) leaveFile();
  if (base_) munmap(base_, bytes_);
}

uint64_t Region::rateUnits(double tokensPerSec) const noexcept {
  return clampUnits(tokensPerSec * unitsPerToken_);
}

uint64_t Region::units(double tokens) const noexcept { return clampUnits(tokens * unitsPerToken_); }

uint64_t Region::costUnits(double tokens) const noexcept { return clampUnits(std::ceil(tokens * unitsPerToken_)); }

double Region::ratePerSec(uint64_t rate) const noexcept {
  return static_cast<double>(rate) / unitsPerToken_;
}

}  // namespace foretoken
