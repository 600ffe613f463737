#pragma once
// The terminal that shows the output of this process.

#include <optional>
#include <string>
#include <string_view>

namespace foretoken {

/// Width of the terminal at this descriptor, in characters. Empty if the descriptor is not a terminal, if the
/// terminal cannot move its cursor (TERM=dumb), or if it has no size: mpirun gives its ranks a terminal in
/// any case, but one without a size if its own output is a file or a pipe.
std::optional<int> terminal_columns(int descriptor);

/// Clears the line that the cursor is in, and moves the cursor to its start.
inline constexpr std::string_view clear_line = "\r\033[K";

/// Width of UTF-8 text in characters. Each code point counts as one.
int width_of(std::string_view text);

/// The text with line breaks between words, so that no line is wider than `columns` unless it holds only one
/// word. Lines after the first are indented by `indent` spaces. Existing line breaks stay.
std::string wrapped(std::string_view text, int columns, int indent);

/// Example: "[######--------------]", `width` characters between the brackets.
std::string bar_text(double fraction, int width);

}  // namespace foretoken
