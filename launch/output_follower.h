#pragma once
// Copies what is appended to a file to stdout, without ever waiting for a reader of stdout. What is printed
// holds no control character but line ends and tabs (io/printable.h).

#include <string>

namespace foretoken {

class OutputFollower {
 public:
  explicit OutputFollower(const std::string& path);
  ~OutputFollower();
  OutputFollower(const OutputFollower&) = delete;
  OutputFollower& operator=(const OutputFollower&) = delete;

  /// Copies what is there and stdout takes now. True where nothing is left to copy, also because stdout is
  /// closed.
  bool copy();

 private:
  std::string next_text();

  int file_ = -1;
  long offset_ = 0;      // of the next byte to read
  std::string pending_;  // read, not printed yet
  bool closed_ = false;
};

}  // namespace foretoken
