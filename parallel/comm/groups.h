#pragma once
// The communicators of this rank's groups in the rank grid.

#include <map>
#include <memory>
#include <vector>

#include "parallel/comm/mpi_communicator.h"
#include "parallel/comm/transport.h"
#include "parallel/grid.h"

namespace foretoken {

struct Groups {
  Grid grid;
  int pp_rank = 0;
  int dp_rank = 0;
  Communicator& world;  // for tensors on the host
  std::unique_ptr<Transport> transport;
  // For tensors of the stream's device:
  std::unique_ptr<Communicator> device_world;  // all ranks; collectives only
  std::unique_ptr<Communicator> pipeline;  // the pp ranks of one replica, in pipeline order; messages only
  std::unique_ptr<Communicator> dp;        // the dp ranks of one pipeline rank; collectives only
  /// One group for each set passed to make_groups() that contains this rank's pipeline rank. The group has
  /// the ranks of the set within this replica, and its key is the set (ParameterUnit::holders). Collectives
  /// only; some ranks start one long before others (Traffic::may_start_early).
  std::map<std::vector<int>, std::unique_ptr<Communicator>> holders;
};

/// `holders`: the sets of pipeline ranks that share units, in the same order on all ranks. Collective over
/// the world, whose size must be grid.world() (see validate()). World and stream must outlive the groups.
Groups make_groups(MpiCommunicator& world, const Grid& grid, Stream& stream,
                   const std::vector<std::vector<int>>& holders = {});

}  // namespace foretoken
