#pragma once
// Splits the flat parameter buffer of one pipeline rank into buckets, and each bucket over its data-parallel
// ranks. Gradient reduction, optimizer, shared weights and checkpoints use the same plan.

#include <cstdint>
#include <vector>

#include "parallel/optimizer/shard.h"
#include "runtime/operators/parameters/parameters.h"

namespace foretoken {

/// Consecutive units whose gradients are reduced in one collective.
struct Bucket {
  Range range;  // range of the flat buffer
  int first_unit = 0;
  int end_unit = 0;  // one past the last
  bool shared = false;
  bool canonical = true;
  bool head = false;    // prediction heads with a gradient norm of their own
  bool frozen = false;  // neither reduced nor updated
};

struct ShardPlan {
  std::vector<Bucket> buckets;
  int dp = 1;
  int dp_rank = 0;
  bool sharded = false;  // optimizer state is sharded over the data-parallel ranks (ZeRO stage 1)

  /// The range that this rank counts in norms and writes to checkpoints, so that the dp ranks share the work.
  Range part(const Bucket& bucket) const { return part_of(bucket.range, dp, dp_rank); }
  /// The range that this rank updates: it holds the reduced gradient and the moments of this range.
  Range owned(const Bucket& bucket) const { return sharded ? part(bucket) : bucket.range; }
};

struct ShardOptions {
  std::int64_t bucket_bytes = 0;  // of gradient
  int dp = 1;
  int dp_rank = 0;
  bool sharded = false;      // ShardPlan::sharded
  bool heads_apart = false;  // a bucket holds either units of heads or of the main model
};

/// Fills each bucket with consecutive units up to bucket_bytes, and at least one unit. A shared unit has a
/// bucket of its own. A bucket holds either frozen or trained units. The plan is the same on all dp ranks of
/// a stage. Throws DefectError if the size of a unit is not a multiple of dp.
ShardPlan plan_shards(const Parameters& parameters, const ShardOptions& options);

}  // namespace foretoken
