#include "launch/console/terminal.h"

#include <algorithm>
#include <cstdlib>
#include <sys/ioctl.h>
#include <unistd.h>

#include <fmt/format.h>

namespace foretoken {

namespace {

std::string wrapped_line(std::string_view line, int columns, int indent) {
  std::string text;
  int column = 0;
  bool at_start = true;  // at the beginning of a line
  while (!line.empty()) {
    // A word keeps the spaces before it, so that the text after a label stays in its column.
    const std::size_t begin = std::min(line.find_first_not_of(' '), line.size());
    const std::size_t end = std::min(line.find(' ', begin), line.size());
    const int width = width_of(line.substr(0, end));
    if (!at_start && column + width > columns) {
      text += '\n' + std::string(static_cast<std::size_t>(indent), ' ');
      column = indent;
      at_start = true;
      line.remove_prefix(begin);
      continue;
    }
    text += line.substr(0, end);
    column += width;
    at_start = false;
    line.remove_prefix(end);
  }
  return text;
}

}  // namespace

std::optional<int> terminal_columns(int descriptor) {
  const char* kind = std::getenv("TERM");
  if (isatty(descriptor) != 1 || (kind != nullptr && std::string_view(kind) == "dumb")) return std::nullopt;
  winsize size{};
  if (ioctl(descriptor, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return std::nullopt;
  return size.ws_col;
}

int width_of(std::string_view text) {
  return static_cast<int>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string wrapped(std::string_view text, int columns, int indent) {
  std::string result;
  while (true) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    result += wrapped_line(text.substr(0, end), columns, indent);
    if (end == text.size()) return result;
    result += '\n';
    text.remove_prefix(end + 1);
  }
}

std::string bar_text(double fraction, int width) {
  const int full = static_cast<int>(std::clamp(fraction, 0.0, 1.0) * width);
  return fmt::format("[{:#<{}}{:-<{}}]", "", full, "", width - full);
}

}  // namespace foretoken
