#pragma once
// The groups that the ranks of a grid form.

#include <memory>

#include "parallel/grid.h"
#include "parallel/mpi_communicator.h"

namespace foretoken {

struct Groups {
  Grid grid;
  int pp_rank = 0;
  int dp_rank = 0;
  Communicator& world;
  std::unique_ptr<Communicator> pipeline;  // the pp ranks of one replica, in pipeline order
  std::unique_ptr<Communicator> dp;        // the dp ranks of one pipeline rank
  /// Rank 0 is the first and rank 1 the last pipeline rank of one replica; nothing on the ranks between them,
  /// and where both are one rank.
  std::unique_ptr<Communicator> ends;
};

/// Collective over the world, whose size must be the grid's (validate()).
Groups make_groups(MpiCommunicator& world, const Grid& grid);

}  // namespace foretoken
