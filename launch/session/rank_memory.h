#pragma once
// The memory of one rank, without ranks, devices or memory: the plans of its model and of its optimizer run
// over arenas that only count.

#include <cstddef>

#include "launch/session/session.h"
#include "parallel/optimizer/optimizer_state.h"
#include "runtime/memory_use.h"

namespace foretoken {

struct RankMemory {
  MemoryUse use;              // the tensors on the rank's device
  std::size_t allocated = 0;  // the arenas' blocks that hold them, padding included
};

/// Equals, byte for byte, what the arenas of a run of this plan allocate on the rank's device. The scratch of
/// the device's libraries and the messages' staging buffers are not in it.
RankMemory plan_memory(const SessionPlan& plan, int pp_rank, int dp_rank);

/// The optimizer's settings. Its moments have the configured dtype on every device.
OptimizerConfig optimizer_config(const OptimizerSettings& settings);

/// How a rank's parameters are split into buckets and, if the optimizer is sharded, over its replicas.
ShardPlan plan_shards(const SessionPlan& plan, const Parameters& parameters, int dp_rank);

}  // namespace foretoken
