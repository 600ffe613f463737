#pragma once
// "did you mean ...?" for keys, flags and commands.

#include <span>
#include <string>
#include <string_view>

namespace foretoken {

/// Whether `typed` is close enough to `meant` to be a typing error, and closer than `best` edits. If so,
/// `best` becomes its distance; begin with std::string_view::npos.
bool is_closer_spelling(std::string_view typed, std::string_view meant, std::size_t& best);

/// The word that `typed` was probably meant to be, the first one among equals; empty if none is close.
std::string closest_spelling(std::string_view typed, std::span<const std::string> words);

}  // namespace foretoken
