#include "io/utf8.h"

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

}  // namespace foretoken
