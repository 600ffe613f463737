#include "launch/text_stream.h"

#include <algorithm>

namespace foretoken {

namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";  // U+FFFD

struct Character {
  enum { whole, broken, unfinished } state;
  std::size_t bytes;
};

/// The first character of a text that is not empty, by table 3-7 of the Unicode standard; of one that breaks
/// off, the bytes that belong to it.
Character first_character(std::string_view text) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = at(0);
  if (lead < 0x80) return {Character::whole, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Character::broken, 1};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  for (std::size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Character::unfinished, i};
    unsigned char least = 0x80, most = 0xBF;
    if (i == 1 && lead == 0xE0) least = 0xA0;
    if (i == 1 && lead == 0xED) most = 0x9F;
    if (i == 1 && lead == 0xF0) least = 0x90;
    if (i == 1 && lead == 0xF4) most = 0x8F;
    if (at(i) < least || at(i) > most) return {Character::broken, i};
  }
  return {Character::whole, length};
}

}  // namespace

std::string TextStream::push(std::string_view bytes) {
  if (stopped_) return {};
  pending_ += bytes;
  std::size_t end = std::string::npos;
  for (const std::string& stop : stops_) end = std::min(end, pending_.find(stop));
  if (end != std::string::npos) {
    pending_.resize(end);
    stopped_ = true;
    return finish();
  }
  return show(pending_.size() - held_back(), false);
}

std::string TextStream::finish() {
  return show(pending_.size(), true);
}

/// Bytes at the end that may be the beginning of a stop text.
std::size_t TextStream::held_back() const {
  std::size_t longest = 0;
  for (const std::string& stop : stops_)
    for (std::size_t size = std::min(stop.size() - 1, pending_.size()); size > longest; --size)
      if (std::string_view(pending_).ends_with(std::string_view(stop).substr(0, size))) longest = size;
  return longest;
}

/// The first `count` bytes of what is pending, as far as they are whole characters.
std::string TextStream::show(std::size_t count, bool final) {
  std::string_view rest = std::string_view(pending_).substr(0, count);
  std::string text;
  while (!rest.empty()) {
    const Character next = first_character(rest);
    if (next.state == Character::unfinished && !final) break;
    text += next.state == Character::whole ? rest.substr(0, next.bytes) : replacement;
    rest.remove_prefix(next.bytes);
  }
  pending_.erase(0, count - rest.size());
  return text;
}

}  // namespace foretoken
