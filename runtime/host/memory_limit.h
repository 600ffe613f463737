#pragma once
// The memory that this process may still allocate. Linux overcommits memory and kills a process that uses too
// much, without a message, so planned memory is compared with available memory before it is allocated.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace foretoken {

struct MemoryLimit {
  std::int64_t available = 0;  // bytes
  std::string source;          // "the machine", "its control group"
};

/// The minimum of MemAvailable in /proc/meminfo and the memory left under the limits of the control groups
/// (versions 2 and 1) that contain this process, with the page cache counted as free. Empty if the system
/// does not report MemAvailable. `root` replaces "/" in tests.
std::optional<MemoryLimit> available_memory(const std::filesystem::path& root = "/");

/// Throws UsageError if `bytes` exceeds available_memory(): "{what}: needs 34.4 GB of memory, but
/// its control group has 2.1 GB left".
void require_memory(std::int64_t bytes, std::string_view what,
                    const std::optional<MemoryLimit>& limit = available_memory());

}  // namespace foretoken
