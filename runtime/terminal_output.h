#pragma once
// Writing to a terminal or pipe whose reader may have stopped reading.

#include <chrono>
#include <string_view>

namespace foretoken {

/// Writes to a descriptor without ever blocking in write(). A terminal or pipe is opened again without
/// blocking, so the flags that other processes share stay as they are.
class TerminalOutput {
 public:
  /// `descriptor` stays the caller's, and open.
  explicit TerminalOutput(int descriptor);
  ~TerminalOutput();
  TerminalOutput(const TerminalOutput&) = delete;
  TerminalOutput& operator=(const TerminalOutput&) = delete;

  struct Result {
    std::size_t written = 0;  // bytes
    int error = 0;            // errno, ETIMEDOUT where the reader accepted no byte for the whole limit
  };
  /// Returns when all is written, on an error, or once no byte was accepted for `limit`.
  Result write(std::string_view text, std::chrono::milliseconds limit) const;

 private:
  int descriptor_;
  bool own_ = false;
  bool may_block_ = false;  // could not be opened again
};

}  // namespace foretoken
