#pragma once
// Conditions on a text before toml++ 3.3 parses it. For bytes that are not UTF-8 the parser reaches code
// that is marked unreachable, and destroying the tables of a dotted key with 100,000 parts overflows the
// stack by recursion.

#include <cstdint>
#include <string>
#include <string_view>

namespace foretoken {

struct TomlTextError {
  std::int64_t line = 1;
  std::string what;
};

/// Throws a TomlTextError if the text is not UTF-8, has a control character other than tab and line end, or a
/// key with more than 16 dots.
void require_toml_text(std::string_view text);

}  // namespace foretoken
