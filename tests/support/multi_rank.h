#pragma once
// Support for tests that run on several ranks. Every rank runs the same cases in lockstep. The tags of a case
// name the numbers of ranks that it supports. A case compares with a serial computation: every rank builds
// the full tensor from one seed, runs the sharded operation and compares its slice.
//
//   TEST_CASE("sums are the same on all ranks", "[ranks1][ranks2][ranks4]") {
//     MpiCommunicator& world = multi_rank::world();
//     ...
//   }
//
// A case that fails on any rank fails the run. A CHECK keeps the ranks in lockstep; after a failed REQUIRE or
// an exception on one rank the waits of the others exceed their time limit, and the run ends.

#include "parallel/comm/mpi_communicator.h"
#include "tests/support/catch.h"

namespace foretoken::multi_rank {

/// All ranks of the run. The time limit is reset before each case.
MpiCommunicator& world();

}  // namespace foretoken::multi_rank
