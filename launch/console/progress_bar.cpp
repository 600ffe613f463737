#include "launch/console/progress_bar.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "io/files/printable.h"
#include "launch/console/terminal.h"

namespace foretoken {

namespace {

constexpr int widest_bar = 30;
constexpr std::chrono::milliseconds redraw_interval(100);

std::string format_duration(double seconds) {
  const auto s = static_cast<std::int64_t>(seconds + 0.5);
  return s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60)
                  : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

}  // namespace

std::string format_bytes(double bytes) {
  constexpr std::array units{"B", "kB", "MB", "GB", "TB", "PB"};
  std::size_t unit = 0;
  while (bytes >= 999.5 && unit + 1 < units.size()) {
    bytes /= 1000;
    ++unit;
  }
  return unit == 0 || bytes >= 99.95 ? fmt::format("{:.0f} {}", bytes, units[unit])
                                     : fmt::format("{:.1f} {}", bytes, units[unit]);
}

std::string progress_line(const std::string& label, std::int64_t done, std::int64_t total, double seconds,
                          int columns) {
  const double fraction =
      total > 0 ? std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0) : 1.0;
  std::string figures =
      fmt::format("{:3} %  {} of {}", static_cast<int>(fraction * 100),
                  format_bytes(static_cast<double>(done)), format_bytes(static_cast<double>(total)));
  if (done > 0 && seconds > 0) {
    const double rate = static_cast<double>(done) / seconds;
    figures += fmt::format("  {}/s", format_bytes(rate));
    if (done < total)
      figures += fmt::format("  {} left", format_duration(static_cast<double>(total - done) / rate));
  }
  const int room = columns - static_cast<int>(label.size() + figures.size()) - 6;  // brackets and gaps
  const int width = std::min(widest_bar, room);
  if (width < 4) return fmt::format("{}  {}", label, figures);
  return fmt::format("{}  {}  {}", label, bar_text(fraction, width), figures);
}

ProgressBar::ProgressBar(std::string label, std::int64_t total_bytes, std::FILE* out)
    : label_(std::move(label)), total_(total_bytes), out_(out) {}

ProgressBar::~ProgressBar() {
  clear();
}

std::optional<int> ProgressBar::columns() const {
  return terminal_columns(fileno(out_));
}

double ProgressBar::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void ProgressBar::update(std::int64_t done_bytes) {
  done_ = done_bytes;
  if (columns()) {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_draw_ < redraw_interval) return;
    last_draw_ = now;
    draw();
  } else if (done_ < total_ && done_ * 10 / total_ > tenths_printed_) {
    tenths_printed_ = done_ * 10 / total_;
    draw();
  }
}

void ProgressBar::draw() {
  const std::optional<int> terminal = columns();
  const std::string line = progress_line(label_, done_, total_, seconds(), terminal ? *terminal - 1 : 100);
  if (terminal) {
    clear();
    std::fputs(line.c_str(), out_);
    drawn_ = true;
  } else {
    std::fprintf(out_, "%s\n", line.c_str());
  }
  std::fflush(out_);
}

void ProgressBar::clear() {
  if (drawn_) std::fwrite(clear_line.data(), 1, clear_line.size(), out_);
  drawn_ = false;
}

void ProgressBar::print(const std::string& line) {
  clear();
  std::fprintf(out_, "%s\n", printable(line).c_str());
  std::fflush(out_);
}

void ProgressBar::finish() {
  draw();
  if (drawn_) std::fputs("\n", out_);
  drawn_ = false;
}

}  // namespace foretoken
