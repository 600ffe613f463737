#include "io/files/utf8.h"

#include "runtime/error.h"

namespace foretoken {

Utf8Character first_character(std::string_view text) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = at(0);
  if (lead < 0x80) return {Utf8Character::whole, 1, lead};
  if (lead < 0xC2 || lead > 0xF4) return {Utf8Character::broken, 1};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  char32_t code = lead & (0xFFu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Utf8Character::unfinished, i};
    unsigned char least = 0x80, most = 0xBF;
    if (i == 1 && lead == 0xE0) least = 0xA0;
    if (i == 1 && lead == 0xED) most = 0x9F;
    if (i == 1 && lead == 0xF0) least = 0x90;
    if (i == 1 && lead == 0xF4) most = 0x8F;
    if (at(i) < least || at(i) > most) return {Utf8Character::broken, i};
    code = code << 6 | (at(i) & 0x3Fu);
  }
  return {Utf8Character::whole, length, code};
}

std::optional<std::size_t> first_byte_not_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Character next = first_character(text.substr(at));
    if (next.state != Utf8Character::whole) return at;
    at += next.bytes;
  }
  return std::nullopt;
}

void require_utf8(std::string_view what, std::string_view text) {
  if (const auto at = first_byte_not_utf8(text))
    throw UsageError("{}: byte {} is 0x{:02x}, which is not UTF-8: the files of a run cannot store it", what,
                     *at + 1, static_cast<unsigned char>(text[*at]));
}

}  // namespace foretoken
