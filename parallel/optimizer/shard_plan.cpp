#include "parallel/optimizer/shard_plan.h"

#include "runtime/error.h"

namespace foretoken {

ShardPlan plan_shards(const Parameters& parameters, const ShardOptions& options) {
  const int dp = options.dp;
  ShardPlan plan{.buckets = {}, .dp = dp, .dp_rank = options.dp_rank, .sharded = options.sharded};
  const std::int64_t limit =
      options.bucket_bytes / static_cast<std::int64_t>(size_of(parameters.gradients().dtype));
  const std::vector<ParameterUnit>& units = parameters.units();
  for (int u = 0; u < static_cast<int>(units.size()); ++u) {
    const ParameterUnit& unit = units[static_cast<std::size_t>(u)];
    if ((unit.end - unit.begin) % dp != 0)
      throw DefectError("shard plan: unit \"{}\" has {} elements, not a multiple of dp {}", unit.name,
                        unit.end - unit.begin, dp);
    const bool head = unit.head && options.heads_apart;
    const bool joins = !plan.buckets.empty() && plan.buckets.back().frozen == unit.frozen &&
                       plan.buckets.back().head == head && !unit.shared() && !plan.buckets.back().shared &&
                       unit.end - plan.buckets.back().range.begin <= limit;
    if (joins) {
      plan.buckets.back().range.end = unit.end;
      plan.buckets.back().end_unit = u + 1;
    } else {
      plan.buckets.push_back({.range = {unit.begin, unit.end},
                              .first_unit = u,
                              .end_unit = u + 1,
                              .shared = unit.shared(),
                              .canonical = !unit.shared() || unit.canonical,
                              .head = head,
                              .frozen = unit.frozen});
    }
  }
  return plan;
}

}  // namespace foretoken
