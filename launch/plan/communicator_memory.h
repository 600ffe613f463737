#pragma once
// The memory that NCCL takes on a GPU beside the tensors. An estimate from the figures of one machine: NCCL
// decides by the machine's topology.

#include <cstddef>
#include <map>
#include <tuple>

#include "launch/config/config.h"
#include "parallel/grid.h"

namespace foretoken {

/// Counts the communicators that make_groups() (parallel/comm/groups.h) connects: one for collectives of all
/// ranks, one of the replicas, one for each set of ranks that share weights, and two with each neighbour in
/// the pipeline, one per direction. Each has structures for every channel, and a buffer per channel at each
/// end. Remembers the results; one object serves layouts of one configuration.
class CommunicatorMemory {
 public:
  /// Bytes on the pipeline rank that has the most. 0 for a single rank.
  std::size_t bytes(const Config& config, const Grid& grid);

 private:
  std::map<std::tuple<int, int, bool, int>, std::size_t> known_;  // by pp, v, dp > 1, placement
};

}  // namespace foretoken
