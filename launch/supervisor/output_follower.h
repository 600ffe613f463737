#pragma once
// Copies text that is appended to a file to stdout, without waiting for a reader of stdout. Control
// characters except line ends and tabs are escaped (io/files/printable.h).

#include <string>

namespace foretoken {

class OutputFollower {
 public:
  explicit OutputFollower(const std::string& path);
  ~OutputFollower();
  OutputFollower(const OutputFollower&) = delete;
  OutputFollower& operator=(const OutputFollower&) = delete;

  /// Copies as much as is available and stdout accepts without waiting. Returns true if nothing is left to
  /// copy, or if stdout is closed.
  bool copy();

 private:
  std::string next_text();

  int file_ = -1;
  long offset_ = 0;      // of the next byte to read
  std::string pending_;  // bytes that were read but not yet printed
  bool closed_ = false;
};

}  // namespace foretoken
