#pragma once
// Small text files that are read whole: configurations, manifests, metrics, prompts.

#include <cstdint>
#include <filesystem>
#include <string>

namespace foretoken {

/// The bytes of a regular file. A DataError where it is missing or unreadable, where it is a folder, a pipe
/// or a device (which are refused, not waited for), and where it has more than `most_bytes` bytes.
std::string read_text_file(const std::filesystem::path& path, std::int64_t most_bytes);

/// Limits that no file of ours comes near.
inline constexpr std::int64_t most_config_bytes = std::int64_t{1} << 20;
inline constexpr std::int64_t most_manifest_bytes = std::int64_t{1} << 30;  // 3 million pieces
inline constexpr std::int64_t most_prompt_bytes = std::int64_t{1} << 28;

}  // namespace foretoken
