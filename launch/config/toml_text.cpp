#include "launch/config/toml_text.h"

#include <algorithm>

#include <fmt/format.h>

#include "io/files/utf8.h"

namespace foretoken {

namespace {

constexpr int most_dots = 16;

void require_characters(std::string_view text) {
  std::int64_t line = 1;
  while (!text.empty()) {
    const Utf8Character next = first_character(text);
    if (next.state != Utf8Character::whole)
      throw TomlTextError{
          line, fmt::format("byte 0x{:02x} is not UTF-8", static_cast<unsigned char>(text.front()))};
    const bool allowed = next.code == '\t' || next.code == '\n' || next.code == '\r';
    if (!allowed && (next.code < 0x20 || next.code == 0x7F))
      throw TomlTextError{line, fmt::format("control character 0x{:02x}: TOML allows none, write an escape",
                                            static_cast<unsigned>(next.code))};
    if (next.code == '\n') ++line;
    text.remove_prefix(next.bytes);
  }
}

/// Number of bytes of the string (basic, literal or multi-line) or comment at the start of the text; 0 if the
/// text starts with neither.
std::size_t skipped_bytes(std::string_view text) {
  const char quote = text.front();
  if (quote == '#') return std::min(text.find('\n'), text.size());
  if (quote != '"' && quote != '\'') return 0;
  const std::string_view triple = quote == '"' ? "\"\"\"" : "'''";
  const bool multi_line = text.starts_with(triple);
  for (std::size_t i = multi_line ? 3 : 1; i < text.size(); ++i) {
    if (text[i] == '\\' && quote == '"') {
      ++i;
    } else if (multi_line ? text.substr(i).starts_with(triple) : text[i] == quote || text[i] == '\n') {
      return i + (multi_line ? 3 : 1);
    }
  }
  return text.size();
}

void require_short_keys(std::string_view text) {
  std::int64_t line = 1;
  int dots = 0;
  while (!text.empty()) {
    const std::size_t skipped = skipped_bytes(text);
    const std::string_view part = text.substr(0, std::max<std::size_t>(1, skipped));
    if (skipped == 0 && std::string_view("=,[]{}\n").find(part.front()) != std::string_view::npos) dots = 0;
    if (part == "." && ++dots > most_dots)
      throw TomlTextError{line, fmt::format("a key of more than {} parts", most_dots + 1)};
    line += std::count(part.begin(), part.end(), '\n');
    text.remove_prefix(part.size());
  }
}

}  // namespace

void require_toml_text(std::string_view text) {
  require_characters(text);
  require_short_keys(text);
}

}  // namespace foretoken
