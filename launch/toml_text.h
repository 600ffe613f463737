#pragma once
// What a text must be before toml++ 3.3 parses it. On bytes that are not UTF-8 the parser reaches code that
// its compiler was told is never reached, and the tables of a dotted key with 100,000 parts are destroyed by
// a recursion that overflows the stack.

#include <cstdint>
#include <string>
#include <string_view>

namespace foretoken {

struct TomlTextError {
  std::int64_t line = 1;
  std::string what;
};

/// Throws a TomlTextError where the text is not UTF-8, has a control character other than tab and line end,
/// or a key of more than 16 dots.
void require_toml_text(std::string_view text);

}  // namespace foretoken
