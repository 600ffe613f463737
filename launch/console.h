#pragma once
// What a person reads while a run goes on: lines on stdout, warnings on stderr, both mirrored to log.txt.
// Rank 0 speaks; the console of another rank is silent. May be called from any thread.

#include <fstream>
#include <mutex>
#include <string>

namespace foretoken {

class Console {
 public:
  explicit Console(bool speaks) : speaks_(speaks) {}

  /// From here on every line goes to the end of this file too. A DataError where it cannot be opened; where
  /// it cannot be written later (a full disk) one warning says so.
  void open_log(const std::string& path);

  void line(const std::string& text);
  /// "warning: ..."
  void warn(const std::string& text);

 private:
  void mirror(const std::string& text);

  bool speaks_;
  std::mutex mutex_;
  std::string log_path_;
  std::ofstream log_;
  bool log_failed_ = false;
};

}  // namespace foretoken
