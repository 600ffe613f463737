#pragma once
// How a process ends that cannot go on: one line on stderr, "[rank 3 pp1 dp0] checkpoint: ...", and the exit
// code of the error's type (runtime/error.h).
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

/// Of the exception that is being handled: call it inside a catch block. What is not an Error is a defect or
/// a lack of memory, and is said to be.
Failure current_failure();

/// Names this process in messages: "rank 3 pp1 dp0". Until it is called the launcher's environment says which
/// rank this is; without one the program's name stands there.
void name_rank(int rank, const std::string& label);
/// The name; empty where there is none.
std::string rank_label();

/// Prints "[rank 3 pp1 dp0] text" on stderr.
void say_as_rank(const std::string& text);

/// Prints the line. Ranks often fail alike: rank 0 speaks at once, the others after 3 seconds, by which
/// time the launcher has ended them if rank 0 said the same.
void report(const Failure& failure);

}  // namespace foretoken
