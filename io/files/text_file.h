#pragma once
// Small text files that are read as a whole: configurations, manifests, prompts.

#include <cstdint>
#include <filesystem>
#include <string>

namespace foretoken {

/// The bytes of a regular file. Throws a DataError if the file is missing or unreadable, is a folder, a pipe
/// or a device (refused without waiting), or has more than `most_bytes` bytes.
std::string read_text_file(const std::filesystem::path& path, std::int64_t most_bytes);

/// Limits far above the size of any file that Foretoken writes.
inline constexpr std::int64_t most_config_bytes = std::int64_t{1} << 20;
inline constexpr std::int64_t most_manifest_bytes = std::int64_t{1} << 30;  // 3 million pieces
inline constexpr std::int64_t most_prompt_bytes = std::int64_t{1} << 28;

}  // namespace foretoken
