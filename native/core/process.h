// Processes as those who share a region see each other: an identity that no later process has again.
#pragma once

#include <cstdint>

namespace foretoken {

// The process's number in the low half, when it began in the high half: a number is used again, both together are
// not. Never 0.
uint64_t ownIdentity() noexcept;

// Whether no process of this identity is left. One that cannot be asked about counts as there.
bool isProcessGone(uint64_t identity) noexcept;

constexpr uint32_t pidOf(uint64_t identity) noexcept { return static_cast<uint32_t>(identity); }

// Where numbers of processes mean the same: the PID namespace on Linux, 0 where there is only one.
uint64_t pidSpace() noexcept;

}  // namespace foretoken
