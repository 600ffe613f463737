#include "launch/console/columns.h"

#include <algorithm>

namespace foretoken {

namespace {

std::size_t characters(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

std::vector<std::string> wrapped(std::string_view words, std::size_t width) {
  std::vector<std::string> lines;
  for (std::size_t begin = words.find_first_not_of(' '); begin != std::string_view::npos;) {
    const std::size_t end = std::min(words.find(' ', begin), words.size());
    const std::string_view word = words.substr(begin, end - begin);
    if (lines.empty() || characters(lines.back()) + 1 + characters(word) > width)
      lines.emplace_back(word);
    else
      lines.back().append(" ").append(word);
    begin = words.find_first_not_of(' ', end);
  }
  return lines;
}

std::string in_columns(std::string_view left, std::string_view right, std::size_t at) {
  std::string text(left);
  std::size_t column = characters(left);
  for (const std::string& line : wrapped(right, terminal_columns - at)) {
    if (column >= at) {
      text += '\n';
      column = 0;
    }
    text.append(at - column, ' ').append(line);
    column = at + characters(line);
  }
  return text + '\n';
}

}  // namespace foretoken
