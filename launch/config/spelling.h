#pragma once
// Finds the word for "did you mean ...?" after a misspelt key, flag or command.

#include <span>
#include <string>
#include <string_view>

namespace foretoken {

/// Whether `typed` is close enough to `meant` to be a typing error, and closer than `best` edits. If so, sets
/// `best` to the distance. For the first word pass std::string_view::npos in `best`.
bool is_closer_spelling(std::string_view typed, std::string_view meant, std::size_t& best);

/// The word that is closest to `typed`, the first of several that are equally close; empty if no word is
/// close.
std::string closest_spelling(std::string_view typed, std::span<const std::string> words);

}  // namespace foretoken
