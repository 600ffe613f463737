#pragma once
// Text from outside (paths, names, TOML keys, manifests) made safe to show: a terminal obeys control
// characters, so none reaches it.

#include <string>
#include <string_view>

namespace foretoken {

/// The text with every control character as an escape: "\n", "\t", "\x1b", "\u0085". Bytes that are not UTF-8
/// become "\xff". Bidirectional controls, which reorder text, and Unicode's line separators become
/// "\u202e". All other characters stay, a backslash among them: this is for eyes, not for
/// parsers.
std::string printable(std::string_view text);

/// The same, but line feeds and tabs stay: for whole messages and tables.
std::string printable_lines(std::string_view text);

}  // namespace foretoken
