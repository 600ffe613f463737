#pragma once
// Copies what is appended to a file to stdout, without ever waiting for a reader of stdout.

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
  int file_ = -1;
  long offset_ = 0;
  bool closed_ = false;
};

}  // namespace foretoken
