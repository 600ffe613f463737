#pragma once
// Writing to a terminal or pipe whose reader may have stopped reading.

#include <chrono>
#include <string_view>

namespace foretoken {

/// Writes to a descriptor without blocking in write(). A terminal or pipe is reopened with O_NONBLOCK, so
/// that the flags that other processes share do not change.
class TerminalOutput {
 public:
  /// The caller keeps ownership of `descriptor`, which stays open.
  explicit TerminalOutput(int descriptor);
  ~TerminalOutput();
  TerminalOutput(const TerminalOutput&) = delete;
  TerminalOutput& operator=(const TerminalOutput&) = delete;

  struct Result {
    std::size_t written = 0;  // bytes
    int error = 0;            // errno; ETIMEDOUT if the reader accepted no byte for the whole limit
  };
  /// Returns when the text is written, on an error, or once no byte was accepted for `limit`.
  Result write(std::string_view text, std::chrono::milliseconds limit) const;

 private:
  int descriptor_;
  bool own_ = false;
  bool may_block_ = false;  // reopening failed
};

}  // namespace foretoken
