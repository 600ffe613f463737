#include "launch/ranks.h"

#include <fmt/format.h>

#include "launch/failure.h"

namespace foretoken {

ExitCode run_on_ranks(const std::function<ExitCode(MpiCommunicator& world)>& body) {
  MpiWorld world;
  name_rank(world.rank(), fmt::format("rank {}", world.rank()));
  try {
    MpiCommunicator communicator(world);
    return body(communicator);
  } catch (...) {
    const Failure failure = current_failure();
    report(failure);
    if (world.size() == 1) return failure.code;  // nobody waits for it, and an abort makes MPI talk
    world.abort(failure.code);
  }
}

}  // namespace foretoken
