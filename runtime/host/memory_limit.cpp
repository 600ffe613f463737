#include "runtime/host/memory_limit.h"

#include <algorithm>
#include <charconv>
#include <fstream>

#include "runtime/error.h"

namespace foretoken {

namespace {

namespace fs = std::filesystem;

/// Returns the number at the start of a file, or nullopt for "max" or a missing file.
std::optional<std::int64_t> number_in(const fs::path& file) {
  std::ifstream in(file);
  std::int64_t value = 0;
  if (!(in >> value)) return std::nullopt;
  return value;
}

/// Returns the number after `name` in a file of lines "name number".
std::optional<std::int64_t> number_after(const fs::path& file, const std::string& name) {
  std::ifstream in(file);
  std::string word;
  while (in >> word)
    if (std::int64_t value = 0; word == name && in >> value) return value;
  return std::nullopt;
}

struct GroupFiles {
  const char* limit;
  const char* usage;
  const char* cache;  // key in memory.stat: memory that the kernel can reclaim
};

/// Lowers `least` to the tightest limit of a group and its ancestors up to the mount.
void tighten(MemoryLimit& least, const fs::path& mount, fs::path group, const GroupFiles& files) {
  for (group = group.relative_path();; group = group.parent_path()) {
    const fs::path folder = mount / group;
    const auto limit = number_in(folder / files.limit), usage = number_in(folder / files.usage);
    if (limit && usage) {
      const std::int64_t cache = number_after(folder / "memory.stat", files.cache).value_or(0);
      const std::int64_t left = std::max<std::int64_t>(0, *limit - *usage + std::min(cache, *usage));
      if (left < least.available) least = {left, "its control group"};
    }
    if (group.empty()) return;
  }
}

/// Returns the path of this process's group in hierarchy "0::" or "N:...,memory,...:".
std::optional<fs::path> group_of(const fs::path& root, bool version_2) {
  std::ifstream in(root / "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = fmt::format(",{},", line.substr(first + 1, second - first - 1));
    if (version_2 ? controllers == ",," : controllers.find(",memory,") != std::string::npos)
      return line.substr(second + 1);
  }
  return std::nullopt;
}

std::string gigabytes(std::int64_t bytes) {
  return fmt::format("{:.1f} GB", static_cast<double>(bytes) / 1e9);
}

}  // namespace

std::optional<MemoryLimit> available_memory(const fs::path& root) {
  const auto kilobytes = number_after(root / "proc/meminfo", "MemAvailable:");
  if (!kilobytes) return std::nullopt;
  MemoryLimit least{*kilobytes * 1024, "the machine"};
  if (const auto group = group_of(root, true))
    tighten(least, root / "sys/fs/cgroup", *group, {"memory.max", "memory.current", "inactive_file"});
  if (const auto group = group_of(root, false))
    tighten(least, root / "sys/fs/cgroup/memory", *group,
            {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"});
  return least;
}

void require_memory(std::int64_t bytes, std::string_view what, const std::optional<MemoryLimit>& limit) {
  if (limit && bytes > limit->available)
    throw UsageError("{}: needs {} of memory, but {} has {} left", what, gigabytes(bytes), limit->source,
                     gigabytes(limit->available));
}

}  // namespace foretoken
