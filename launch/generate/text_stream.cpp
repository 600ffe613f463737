#include "launch/generate/text_stream.h"

#include <algorithm>

#include "io/files/utf8.h"

namespace foretoken {

namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace

std::string TextStream::push(std::string_view bytes) {
  if (stop_) return {};
  pending_ += bytes;
  const Found found = find_stop();
  if (found.text == nullptr) return show(pending_.size() - held_back(), false);
  pending_.resize(found.begin);
  stop_ = *found.text;
  return finish();
}

std::string TextStream::finish() {
  return show(pending_.size(), true);
}

/// Finds the stop text that is completed first. All its bytes are pending, because bytes that may begin a
/// stop text are held back.
TextStream::Found TextStream::find_stop() const {
  Found first;
  std::size_t first_end = std::string::npos;
  for (const std::string& stop : stops_) {
    const std::size_t begin = pending_.find(stop);
    if (begin == std::string::npos) continue;
    const std::size_t end = begin + stop.size();
    if (end > first_end || (end == first_end && begin > first.begin)) continue;
    first = {.begin = begin, .text = &stop};
    first_end = end;
  }
  return first;
}

/// Number of bytes at the end that may be the beginning of a stop text.
std::size_t TextStream::held_back() const {
  std::size_t longest = 0;
  for (const std::string& stop : stops_)
    for (std::size_t size = std::min(stop.size() - 1, pending_.size()); size > longest; --size)
      if (std::string_view(pending_).ends_with(std::string_view(stop).substr(0, size))) longest = size;
  return longest;
}

/// Removes the first `count` pending bytes and returns their whole characters.
std::string TextStream::show(std::size_t count, bool final) {
  std::string_view rest = std::string_view(pending_).substr(0, count);
  std::string text;
  while (!rest.empty()) {
    const Utf8Character next = first_character(rest);
    if (next.state == Utf8Character::unfinished && !final) break;
    text += next.state == Utf8Character::whole ? rest.substr(0, next.bytes) : replacement;
    rest.remove_prefix(next.bytes);
  }
  pending_.erase(0, count - rest.size());
  return text;
}

}  // namespace foretoken
