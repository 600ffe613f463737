#pragma once
// Counts in messages: "1 layer", "2 layers", "0 branches".

#include <concepts>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace foretoken {

/// Returns the count and its noun. `plural` is for nouns whose plural does not just add an s.
template <std::integral Count>
std::string counted(Count count, std::string_view noun, std::string_view plural = {}) {
  if (count == Count{1}) return fmt::format("{} {}", count, noun);
  return plural.empty() ? fmt::format("{} {}s", count, noun) : fmt::format("{} {}", count, plural);
}

}  // namespace foretoken
