#pragma once
// The end of a process that cannot continue: one line on stderr, "[rank 3 pp1 dp0] checkpoint: ...", and the
// exit code of the error's type (runtime/error.h).
//
//   try {
//     ...
//   } catch (...) {
//     const Failure failure = current_failure();
//     report(failure);
//     world.abort(failure.code);   // or, before MPI is started: return exit code
//   }

#include <string>

#include "runtime/error.h"

namespace foretoken {

struct Failure {
  ExitCode code = ExitCode::defect;
  std::string message;  // one line
};

/// Describes the exception that is being handled; call it in a catch block. An exception that is not an Error
/// is reported as a defect or as lack of memory.
Failure current_failure();

/// Names this process in messages: "rank 3 pp1 dp0". Before this call the rank comes from the launcher's
/// environment; without a launcher, messages start with the program's name.
void name_rank(int rank, const std::string& label);
/// The label given to name_rank(), or the rank from the launcher's environment; empty if there is neither.
std::string rank_label();

/// Prints "[rank 3 pp1 dp0] text" on stderr.
void say_as_rank(const std::string& text);

/// Prints the line. Ranks often fail for the same reason: rank 0 prints immediately, other ranks only after 3
/// seconds. By then the launcher has usually ended them because rank 0 failed.
void report(const Failure& failure);

}  // namespace foretoken
