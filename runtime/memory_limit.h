#pragma once
// How much memory this process may still take. Linux grants more than there is and kills a process that uses
// it, without a word: what is planned is compared with what there is before it is allocated.

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

/// The least of MemAvailable of /proc/meminfo and what the limits of the control groups above this process
/// (version 2, else 1) leave, the page cache counted as free. Nothing where the system does not say.
/// `root` stands for "/", for tests.
std::optional<MemoryLimit> available_memory(const std::filesystem::path& root = "/");

/// A UsageError where `bytes` more are more than available_memory(): "{what}: needs 34.4 GB of memory, but
/// its control group has 2.1 GB left".
void require_memory(std::int64_t bytes, std::string_view what,
                    const std::optional<MemoryLimit>& limit = available_memory());

}  // namespace foretoken
