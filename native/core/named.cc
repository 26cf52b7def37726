#include "named.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "directory.h"
#include "process.h"

namespace foretoken {

namespace {

// How long the creator may take, or whoever looks at a file nobody uses: both hold it for a millisecond.
constexpr uint64_t kPatienceNs = 5000000000;

std::string folder() {
#if defined(__APPLE__)
  char path[1024];
  const size_t length = confstr(_CS_DARWIN_USER_TEMP_DIR, path, sizeof path);
  return length > 0 && length <= sizeof path ? path : "/tmp/";
#else
  return "/dev/shm/";
#endif
}

std::string prefix() { return "foretoken." + std::to_string(geteuid()) + "."; }

std::string pathOf(const std::string& name) { return folder() + prefix() + name; }

// A descriptor that closes itself unless it is kept.
class File {
 public:
  explicit File(int fd) noexcept : fd_(fd) {}
  ~File() {
    const int error = errno;  // why it is given up, for whoever asks
    if (fd_ >= 0) ::close(fd_);
    errno = error;
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const noexcept { return fd_; }
  int keep() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

void rest() noexcept {
  const timespec ms{0, 1000000};
  nanosleep(&ms, nullptr);
}

// Whether the path still leads to this file: it may have been removed, and another made, since it was opened.
bool isAt(int fd, const std::string& path) noexcept {
  struct stat mine, there;
  return fstat(fd, &mine) == 0 && stat(path.c_str(), &there) == 0 && mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

bool lock(int fd, int how) noexcept {
  int done;
  do done = flock(fd, how);
  while (done != 0 && errno == EINTR);
  return done == 0;
}

bool isMine(const struct stat& s) noexcept { return S_ISREG(s.st_mode) && s.st_uid == geteuid() && (s.st_mode & 077) == 0; }

bool runsLikeOurs(const PlainHeader& header) noexcept {
  const uint64_t now = monotonicNs();
  if (header.clockKind == ClockKind::kMonotonic) return now >= header.originNs;
  if (header.clockKind != ClockKind::kTsc || !hasInvariantTsc() || now < header.originNs) return false;
  // Calibration is off by some millionths, the system's clock is steered by up to 500; a counter that was set
  // back, or another machine's, is off by more.
  const double expected = static_cast<double>(now - header.originNs);
  const double shown = static_cast<double>(RegionClock{&header}());
  return std::abs(shown - expected) <= 1e8 + expected / 500;
}

// Reads the header of a file without mapping it. kNotReady: nothing is wrong, but its creator has not finished.
Refusal inspect(int fd, PlainHeader& header) noexcept {
  struct stat s;
  if (fstat(fd, &s) != 0) return Refusal::kSystem;
  if (!isMine(s)) return Refusal::kOwner;
  if (s.st_size == 0) return Refusal::kNotReady;
  // Its fields are read as bytes; whoever lays it out publishes `ready` last.
  const ssize_t got = pread(fd, static_cast<void*>(&header), sizeof header, 0);
  if (got < 0) return Refusal::kSystem;
  if (static_cast<size_t>(got) < sizeof header) return header.magic == kMagic ? Refusal::kSize : Refusal::kNotOne;
  const uint32_t ready = header.ready.load(std::memory_order_acquire);
  if (header.magic == 0 && ready == 0 && header.abi == 0) return Refusal::kNotReady;
  if (header.magic != kMagic) return Refusal::kNotOne;
  if (ready == 0) return Refusal::kNotReady;
  if (header.abi != kAbi || ready != kAbi) return Refusal::kAbi;
  const bool plausible = header.capacity >= 1 && header.capacity <= kMaxCapacity && header.areaBytes < 1ull << 40 && header.directoryBytes < 1ull << 40;
  if (!plausible || header.headerBytes != kHeaderBytes || header.bucketBytes != sizeof(PlainBucket) ||
      header.regionBytes != static_cast<uint64_t>(s.st_size) ||
      header.regionBytes != offsetsFor(header.capacity, header.areaBytes, header.directoryBytes).total ||
      header.directoryBytes != Directory::bytesFor(header.capacity))
    return Refusal::kSize;
  if (header.pidSpace != pidSpace()) return Refusal::kPidSpace;
  if (!runsLikeOurs(header)) return Refusal::kClock;
  return Refusal::kNone;
}

bool fits(const PlainHeader& header, const RegionOptions& options) noexcept {
  const double unit = std::ldexp(1.0, tokenShiftFor(options.rate, options.burst));
  return header.capacity == options.capacity && header.tokenShift == tokenShiftFor(options.rate, options.burst) &&
         header.firstRate.load(std::memory_order_relaxed) == static_cast<uint64_t>(options.rate * unit) &&
         header.firstBurst.load(std::memory_order_relaxed) == static_cast<uint64_t>(options.burst * unit);
}

// Memory that is not there when a page is first touched kills the process, so it is asked about first.
bool hasRoom(int fd, uint64_t bytes) noexcept {
  struct statvfs s;
  if (fstatvfs(fd, &s) != 0 || static_cast<uint64_t>(s.f_bavail) * s.f_frsize >= bytes) return true;
  errno = ENOSPC;
  return false;
}

// Those of this process, by path: a second opening would wait for its own lock.
std::mutex openingMutex;
std::unordered_map<std::string, std::weak_ptr<Region>>& opened() {
  static auto* map = new std::unordered_map<std::string, std::weak_ptr<Region>>();
  return *map;
}

}  // namespace

bool isRegionName(const std::string& name) noexcept {
  if (name.empty() || name.size() > 64) return false;
  for (const char c : name)
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_')) return false;
  return true;
}

std::shared_ptr<Region> Region::open(const std::string& name, const RegionOptions& options, Refusal& refusal) {
  const std::string path = pathOf(name);
  const std::lock_guard<std::mutex> guard(openingMutex);
  if (auto there = opened()[path].lock(); there && isAt(there->file_, path)) {
    refusal = fits(there->header(), options) ? Refusal::kNone : Refusal::kOptions;
    return refusal == Refusal::kNone ? there : nullptr;
  }
  const uint64_t untilNs = monotonicNs() + kPatienceNs;
  const Offsets o = offsetsFor(options.capacity, options.areaBytes, Directory::bytesFor(options.capacity));
  const auto failed = [&](Refusal reason) {
    refusal = reason;
    return nullptr;
  };
  for (; monotonicNs() < untilNs; rest()) {
    File file(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (file.fd() < 0) return failed(errno == ELOOP || errno == EACCES ? Refusal::kOwner : Refusal::kSystem);
    const bool unused = lock(file.fd(), LOCK_EX | LOCK_NB);
    if (!unused && !lock(file.fd(), LOCK_SH | LOCK_NB)) continue;  // being made, or looked at
    if (!isAt(file.fd(), path)) continue;
    alignas(64) unsigned char bytes[sizeof(PlainHeader)] = {};
    PlainHeader& header = *new (bytes) PlainHeader();
    const Refusal found = inspect(file.fd(), header);
    if (found == Refusal::kSystem || found == Refusal::kOwner || found == Refusal::kNotOne) return failed(found);
    const bool usable = found == Refusal::kNone && fits(header, options);
    bool make = false;
    if (!usable) {
      // Not finished, and its creator gone: the next turn finds nobody using it.
      if (!unused && found == Refusal::kNotReady) continue;
      if (!unused) return failed(found == Refusal::kNone ? Refusal::kOptions : found);
      if (found == Refusal::kNotReady) make = true;
      else {
        // All who used it are gone and it is of no use to us. A new file, so that nobody's memory changes under him.
        unlink(path.c_str());
        continue;
      }
    }
    if (make) {
      if (!hasRoom(file.fd(), o.lanes)) return failed(Refusal::kSystem);
      if (ftruncate(file.fd(), 0) != 0 || ftruncate(file.fd(), static_cast<off_t>(o.total)) != 0) return failed(Refusal::kSystem);
    }
    void* memory = mmap(nullptr, o.total, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file.fd(), 0);
    if (memory == MAP_FAILED) return failed(Refusal::kSystem);
    std::shared_ptr<Region> region(new Region());
    region->base_ = static_cast<uint8_t*>(memory);
    region->bytes_ = o.total;
    region->path_ = path;
    region->file_ = file.keep();
    if (make) region->lay(options, Directory::bytesFor(options.capacity));
    else region->locate();
    // Turning an exclusive lock into a shared one lets go of it for a moment, in which another may have taken the
    // file for unused.
    if (unused && (!lock(region->file_, LOCK_SH) || !isAt(region->file_, path))) continue;
    if (!region->join()) return failed(Refusal::kCrowded);
    refusal = Refusal::kNone;
    opened()[path] = region;
    return remember(std::move(region));
  }
  return failed(Refusal::kNotReady);
}

void Region::leaveFile() noexcept {
  if (member_) {
    member_->threads.store(0, std::memory_order_relaxed);
    member_->owner.store(0, std::memory_order_release);
  }
  // The last one out takes the region along.
  if (lock(file_, LOCK_EX | LOCK_NB) && isAt(file_, path_)) unlink(path_.c_str());
  ::close(file_);
}

bool Region::join() noexcept {
  for (auto& member : header_->members) {
    uint64_t owner = member.owner.load(std::memory_order_acquire);
    if (owner && !isProcessGone(owner)) continue;
    if (!member.owner.compare_exchange_strong(owner, ownIdentity(), std::memory_order_acq_rel, std::memory_order_acquire)) continue;
    member.threads.store(0, std::memory_order_relaxed);
    member_ = &member;
    return true;
  }
  return false;
}

uint64_t Region::attachedThreads() noexcept {
  if (!member_) return threads_.load(std::memory_order_relaxed);
  uint64_t sum = 0;
  for (auto& member : header_->members) {
    uint64_t owner = member.owner.load(std::memory_order_acquire);
    if (!owner) continue;
    if (owner != ownIdentity() && isProcessGone(owner)) {
      member.owner.compare_exchange_strong(owner, 0, std::memory_order_acq_rel, std::memory_order_relaxed);
      continue;
    }
    sum += member.threads.load(std::memory_order_relaxed);
  }
  return sum;
}

std::vector<RegionReport> listRegions() {
  std::vector<RegionReport> reports;
  const std::string start = prefix();
  DIR* entries = opendir(folder().c_str());
  if (!entries) return reports;
  while (const dirent* entry = readdir(entries)) {
    const std::string file = entry->d_name;
    if (file.compare(0, start.size(), start) != 0 || !isRegionName(file.substr(start.size()))) continue;
    const File opened(::open((folder() + file).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    struct stat s;
    if (opened.fd() < 0 || fstat(opened.fd(), &s) != 0) continue;
    RegionReport report{file.substr(start.size()), static_cast<uint64_t>(s.st_size), Refusal::kNone, false, 0, 0, 0, 0, {}, 0};
    report.inUse = !lock(opened.fd(), LOCK_EX | LOCK_NB);
    alignas(64) unsigned char bytes[sizeof(PlainHeader)] = {};
    PlainHeader& header = *new (bytes) PlainHeader();
    report.readable = inspect(opened.fd(), header);
    if (report.readable == Refusal::kNone) {
      const double unit = std::ldexp(1.0, header.tokenShift);
      report.capacity = header.capacity;
      report.targets = header.liveTargets.load(std::memory_order_relaxed);
      report.ratePerSec = static_cast<double>(header.resourceRate.load(std::memory_order_relaxed)) / unit;
      report.burst = static_cast<double>(header.resourceBurst.load(std::memory_order_relaxed)) / unit;
      for (const auto& member : header.members)
        if (const uint64_t owner = member.owner.load(std::memory_order_relaxed); owner && !isProcessGone(owner))
          report.processes.push_back(pidOf(owner));
      const uint64_t holder = header.controllerPid.load(std::memory_order_relaxed);
      const bool held = RegionClock{&header}() < header.controllerUntilNs.load(std::memory_order_relaxed);
      if (holder && held && !isProcessGone(holder)) report.controller = pidOf(holder);
    }
    reports.push_back(std::move(report));
  }
  closedir(entries);
  return reports;
}

Refusal removeRegion(const std::string& name, bool force) {
  const std::string path = pathOf(name);
  for (int tries = 0; tries < 100; ++tries, rest()) {
    const File file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (file.fd() < 0) return errno == ENOENT ? Refusal::kMissing : errno == ELOOP || errno == EACCES ? Refusal::kOwner : Refusal::kSystem;
    struct stat s;
    if (fstat(file.fd(), &s) != 0) return Refusal::kSystem;
    if (s.st_uid != geteuid()) return Refusal::kOwner;
    if (!lock(file.fd(), LOCK_EX | LOCK_NB) && !force) return Refusal::kInUse;
    if (!isAt(file.fd(), path)) continue;
    return unlink(path.c_str()) == 0 ? Refusal::kNone : errno == ENOENT ? Refusal::kMissing : Refusal::kSystem;
  }
  return Refusal::kInUse;
}

}  // namespace foretoken
