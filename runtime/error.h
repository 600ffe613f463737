#pragma once
// Typed errors. Every message that a user reads says who, what, expected and actual. The type determines the
// exit code, which launchers and job scripts act on.

#include <stdexcept>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace foretoken {

enum class ExitCode : int {
  done = 0,
  defect = 1,      // a bug in Foretoken
  usage = 2,       // bad command line or configuration
  data = 3,        // bad dataset, tokenizer or checkpoint
  numerical = 4,   // loss or gradient is not finite, replicas differ
  peer = 5,        // another rank or the network failed
  resumable = 75,  // stopped on request after a checkpoint was written: the same command resumes the run
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

template <ExitCode Code>
class TypedError : public Error {
 public:
  template <class... Args>
  explicit TypedError(fmt::format_string<Args...> format, Args&&... args)
      : Error(Code, fmt::format(format, std::forward<Args>(args)...)) {}
};

using DefectError = TypedError<ExitCode::defect>;
using UsageError = TypedError<ExitCode::usage>;
using DataError = TypedError<ExitCode::data>;
using NumericalError = TypedError<ExitCode::numerical>;
using PeerError = TypedError<ExitCode::peer>;

}  // namespace foretoken
