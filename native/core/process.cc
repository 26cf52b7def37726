#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__APPLE__)
#include <libproc.h>
#endif

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace foretoken {

namespace {

enum class Seen { kGone, kThere, kUnknown };

// When a process began, in units that differ between two that had the same number one after the other: clock ticks
// since boot on Linux, ms on macOS.
Seen beganAt(uint32_t pid, uint32_t& began) noexcept {
#if defined(__APPLE__)
  proc_bsdinfo info;
  if (proc_pidinfo(static_cast<int>(pid), PROC_PIDTBSDINFO, 0, &info, sizeof info) != sizeof info) return Seen::kUnknown;
  began = static_cast<uint32_t>(info.pbi_start_tvsec * 1000 + info.pbi_start_tvusec / 1000);
  return Seen::kThere;
#else
  char path[32], text[1024];
  std::snprintf(path, sizeof path, "/proc/%u/stat", pid);
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  // Out of descriptors, for instance, is no sign that another process is gone.
  if (file < 0) return errno == ENOENT && access("/proc/self/stat", R_OK) == 0 ? Seen::kGone : Seen::kUnknown;
  const ssize_t length = ::read(file, text, sizeof text - 1);
  const int error = errno;
  close(file);
  if (length <= 0) return length < 0 && error == ESRCH ? Seen::kGone : Seen::kUnknown;
  text[length] = 0;
  // The command's name may hold anything, so fields are counted from its end: state is the third, start the 22nd.
  const char* at = std::strrchr(text, ')');
  if (!at || at[1] == 0) return Seen::kUnknown;
  at += 2;
  if (*at == 'Z' || *at == 'X') return Seen::kGone;  // ended; its parent has not looked yet
  for (int field = 3; field < 22 && at; ++field) {
    at = std::strchr(at, ' ');
    if (at) ++at;
  }
  if (!at) return Seen::kUnknown;
  began = static_cast<uint32_t>(std::strtoull(at, nullptr, 10));
  return Seen::kThere;
#endif
}

}  // namespace

uint64_t ownIdentity() noexcept {
  static std::atomic<uint64_t> known{0};
  const auto pid = static_cast<uint32_t>(getpid());
  // relaxed: every thread would find the same. Asked for anew after a fork.
  uint64_t identity = known.load(std::memory_order_relaxed);
  if (pidOf(identity) != pid) {
    uint32_t began = 0;
    beganAt(pid, began);
    identity = static_cast<uint64_t>(began) << 32 | pid;
    known.store(identity, std::memory_order_relaxed);
  }
  return identity;
}

bool isProcessGone(uint64_t identity) noexcept {
  const uint32_t pid = pidOf(identity);
  if (kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH) return true;
  const auto began = static_cast<uint32_t>(identity >> 32);
  uint32_t now = 0;
  switch (beganAt(pid, now)) {
    case Seen::kGone: return true;
    case Seen::kThere: return began != 0 && now != began;
    case Seen::kUnknown: return false;
  }
  return false;
}

uint64_t pidSpace() noexcept {
#if defined(__APPLE__)
  return 0;
#else
  struct stat s;
  return stat("/proc/self/ns/pid", &s) == 0 ? static_cast<uint64_t>(s.st_ino) : 0;
#endif
}

}  // namespace foretoken
