#pragma once
// Text for a terminal of a given width. Widths count characters, not bytes.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace foretoken {

inline constexpr std::size_t terminal_columns = 100;

/// The words in lines of at most `width` characters. A longer word has a line of its own.
std::vector<std::string> wrapped(std::string_view words, std::size_t width);

/// `left`, then `right` from column `at` on, wrapped at terminal_columns. If `left` reaches column `at`,
/// `right` begins on the next line. The text ends with a newline.
std::string in_columns(std::string_view left, std::string_view right, std::size_t at);

}  // namespace foretoken
