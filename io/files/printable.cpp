#include "io/files/printable.h"

#include <fmt/format.h>

#include "io/files/utf8.h"

namespace foretoken {

namespace {

bool is_control(char32_t code) {
  return code < 0x20 || (code >= 0x7F && code <= 0x9F);
}

/// Bidirectional controls and line separators.
bool reorders_text(char32_t code) {
  return code == 0x061C || code == 0x200E || code == 0x200F || (code >= 0x2028 && code <= 0x202E) ||
         (code >= 0x2066 && code <= 0x2069);
}

std::string escape_of(char32_t code) {
  if (code == '\n') return "\\n";
  if (code == '\r') return "\\r";
  if (code == '\t') return "\\t";
  return code < 0x80 ? fmt::format("\\x{:02x}", static_cast<unsigned>(code))
                     : fmt::format("\\u{:04x}", static_cast<unsigned>(code));
}

std::string escaped(std::string_view text, bool keep_lines) {
  std::string shown;
  shown.reserve(text.size());
  while (!text.empty()) {
    const Utf8Character next = first_character(text);
    const bool kept = keep_lines && (next.code == '\n' || next.code == '\t');
    if (next.state != Utf8Character::whole)
      for (const char byte : text.substr(0, next.bytes))
        shown += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
    else if (!kept && (is_control(next.code) || reorders_text(next.code)))
      shown += escape_of(next.code);
    else
      shown += text.substr(0, next.bytes);
    text.remove_prefix(next.bytes);
  }
  return shown;
}

}  // namespace

std::string printable(std::string_view text) {
  return escaped(text, false);
}

std::string printable_lines(std::string_view text) {
  return escaped(text, true);
}

}  // namespace foretoken
