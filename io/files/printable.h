#pragma once
// Makes text that the program did not write itself (paths, names, TOML keys, manifests) safe to print. A
// terminal executes control characters, so none may reach it.

#include <string>
#include <string_view>

namespace foretoken {

/// The text with every control character escaped: "\n", "\t", "\x1b", "\u0085". Bytes that are not UTF-8
/// become escapes such as "\xff". Bidirectional controls, which reorder text, and Unicode's line separators
/// become escapes such as "\u202e". Other characters stay, backslashes included, because the result is for
/// reading, not for parsing.
std::string printable(std::string_view text);

/// The same, but line feeds and tabs stay; for whole messages and tables.
std::string printable_lines(std::string_view text);

}  // namespace foretoken
