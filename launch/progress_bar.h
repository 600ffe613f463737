#pragma once
// Progress over bytes, for people: a bar redrawn in place on a terminal, a plain line at every tenth
// otherwise.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace foretoken {

/// "tokenize  [######--------------]  31 %  1.2 of 3.9 GB  310 MB/s  0:09 left"; the bar gives way to a
/// narrow terminal, and rate and time left appear once they can be known.
std::string progress_line(const std::string& label, std::int64_t done, std::int64_t total, double seconds,
                          int columns);

/// "512 B", "1.2 GB": powers of 1000.
std::string format_bytes(double bytes);

class ProgressBar {
 public:
  ProgressBar(std::string label, std::int64_t total_bytes, std::FILE* out);
  /// Clears the bar where it was left unfinished.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void update(std::int64_t done_bytes);
  /// A line of text above the bar.
  void print(const std::string& line);
  /// Draws it for the last time and keeps it.
  void finish();

 private:
  void draw();
  void clear();
  double seconds() const;

  std::string label_;
  std::int64_t total_;
  std::FILE* out_;
  bool terminal_;
  std::int64_t done_ = 0;
  std::int64_t tenths_printed_ = 0;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point last_draw_{};
};

}  // namespace foretoken
