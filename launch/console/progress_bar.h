#pragma once
// Progress in bytes: on a terminal a bar that is redrawn in place, otherwise one line after each tenth of the
// work.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

namespace foretoken {

/// Example: "tokenize  [######--------------]  31 %  1.2 of 3.9 GB  310 MB/s  0:09 left". A narrow terminal
/// shows no bar; rate and remaining time appear once they are known.
std::string progress_line(const std::string& label, std::int64_t done, std::int64_t total, double seconds,
                          int columns);

/// Examples: "512 B", "1.2 GB". Powers of 1000.
std::string format_bytes(double bytes);

class ProgressBar {
 public:
  ProgressBar(std::string label, std::int64_t total_bytes, std::FILE* out);
  /// Clears an unfinished bar.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void update(std::int64_t done_bytes);
  /// Prints a line of text above the bar.
  void print(const std::string& line);
  /// Draws the bar for the last time and keeps it.
  void finish();

 private:
  void draw();
  void clear();
  /// Width of the terminal; empty if `out` is not a terminal.
  std::optional<int> columns() const;
  double seconds() const;

  std::string label_;
  std::int64_t total_;
  std::FILE* out_;
  std::int64_t done_ = 0;
  std::int64_t tenths_printed_ = 0;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point last_draw_{};
};

}  // namespace foretoken
