#pragma once
// UTF-8 by table 3-7 of the Unicode standard: no overlong forms, no surrogates, nothing above U+10FFFF.

#include <cstddef>
#include <string_view>

namespace foretoken {

struct Utf8Character {
  enum State { whole, broken, unfinished };
  State state = whole;
  std::size_t bytes = 0;  // of the character, or those that belong to what is broken
  char32_t code = 0;      // of a whole character
};

/// The first character of a text that is not empty. `unfinished`: the text ends inside the character.
Utf8Character first_character(std::string_view text);

}  // namespace foretoken
