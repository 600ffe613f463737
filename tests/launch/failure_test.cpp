// The error message and the exit code of each kind of exception.
#include "launch/console/failure.h"

#include <new>
#include <stdexcept>

#include "runtime/error.h"
#include "tests/support/catch.h"

using namespace foretoken;

namespace {

template <class Exception>
Failure failure_of(const Exception& exception) {
  try {
    throw exception;
  } catch (...) {
    return current_failure();
  }
}

}  // namespace

TEST_CASE("a typed error keeps its exit code and its message") {
  const Failure data = failure_of(DataError("checkpoint: {}: truncated", "shard_00002.h5"));
  CHECK(data.code == ExitCode::data);
  CHECK(data.message == "checkpoint: shard_00002.h5: truncated");
  CHECK(failure_of(UsageError("x")).code == ExitCode::usage);
  CHECK(failure_of(NumericalError("x")).code == ExitCode::numerical);
  CHECK(failure_of(PeerError("x")).code == ExitCode::peer);
}

TEST_CASE("an error of several lines is reported in one line") {
  CHECK(failure_of(UsageError("a\nb\n")).message == "a; b");
}

TEST_CASE("an exception of another type is a defect or a lack of memory") {
  CHECK(failure_of(std::bad_alloc()).code == ExitCode::defect);
  CHECK(failure_of(std::bad_alloc()).message.rfind("memory: ", 0) == 0);
  CHECK(failure_of(std::out_of_range("vector")).message == "defect: vector");
  CHECK(failure_of(7).code == ExitCode::defect);
}
