#pragma once
// For tests that run on several ranks. Every rank runs the same cases in lockstep; a case names the numbers
// of ranks it is for by its tags, and reads as the serial statement: every rank builds the full tensor from
// one seed, runs the sharded operation and compares its slice.
//
//   TEST_CASE("sums are the same everywhere", "[ranks1][ranks2][ranks4]") {
//     MpiCommunicator& world = multi_rank::world();
//     ...
//   }
//
// A case that fails on any rank fails the run. A CHECK keeps the ranks in lockstep; after a REQUIRE or an
// exception on one rank the others run into the time limit of their waits, and the run ends there.

#include "parallel/mpi_communicator.h"
#include "tests/support/catch.h"

namespace foretoken::multi_rank {

/// All ranks of the run. Its time limit is set anew before each case.
MpiCommunicator& world();

}  // namespace foretoken::multi_rank
