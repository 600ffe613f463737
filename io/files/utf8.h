#pragma once
// UTF-8 by table 3-7 of the Unicode standard: no overlong forms, no surrogates, nothing above U+10FFFF.

#include <cstddef>
#include <optional>
#include <string_view>

namespace foretoken {

struct Utf8Character {
  enum State { whole, broken, unfinished };
  State state = whole;
  std::size_t bytes = 0;  // of the character, or of the invalid sequence
  char32_t code = 0;      // of a whole character
};

/// The first character of a non-empty text. `unfinished`: the text ends inside the character.
Utf8Character first_character(std::string_view text);

/// The position of the first byte that is not part of a valid character; empty if the text is UTF-8.
std::optional<std::size_t> first_byte_not_utf8(std::string_view text);

/// Throws a UsageError that starts with `what` and shows the byte, unless the text is UTF-8.
void require_utf8(std::string_view what, std::string_view text);

}  // namespace foretoken
