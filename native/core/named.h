// Regions that processes of one user share by name. On Linux a region is a file in /dev/shm, which is what POSIX
// shared memory is there; on macOS, whose shared memory can be neither listed nor locked, a mapped file in the user's
// own temporary folder. Every process that has it open holds a shared lock on the file, which the system takes from it
// however it ends: a file that can be locked exclusively is in nobody's use.
#pragma once

#include <string>
#include <vector>

#include "region.h"

namespace foretoken {

// 1 to 64 letters, digits, dots, dashes and underscores.
bool isRegionName(const std::string& name) noexcept;

struct RegionReport {
  std::string name;
  uint64_t bytes;
  Refusal readable;  // kNone, or why the rest below is not known
  bool inUse;
  uint32_t capacity, targets;
  double ratePerSec, burst;
  std::vector<uint32_t> processes;
  uint32_t controller;  // process that holds the role, 0 if none does
};

std::vector<RegionReport> listRegions();

// Removes the file. Whoever has it open goes on with what he has, so that is refused unless forced.
Refusal removeRegion(const std::string& name, bool force);

}  // namespace foretoken
