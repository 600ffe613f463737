#include "parallel/planning/links.h"

#include <algorithm>
#include <bit>

namespace foretoken {

namespace {

/// Share of the bandwidth that NCCL expects of a tree.
constexpr double tree_efficiency = 0.9;

}  // namespace

GroupSpan data_parallel_span(const Grid& grid, int pp_rank, const Links& links) {
  GroupSpan span{.ranks = grid.dp, .nodes = 0, .per_node = 0};
  int node = -1, on_node = 0;
  for (int dp_rank = 0; dp_rank < grid.dp; ++dp_rank) {
    const int next = links.node_of(grid.rank_of(pp_rank, dp_rank));
    if (next != node) {
      node = next;
      on_node = 0;
      ++span.nodes;
    }
    span.per_node = std::max(span.per_node, ++on_node);
  }
  return span;
}

CollectiveCost collective_cost(Collective kind, double bytes, const GroupSpan& group, const Links& links) {
  if (group.ranks <= 1) return {};
  const double n = group.ranks, passes = kind == Collective::all_reduce ? 2 : 1;
  const double between = group.nodes - 1;
  const CollectiveCost ring{
      .latency = passes * ((n - 1 - between) * links.inside.latency + between * links.between.latency),
      .bytes = passes * (n - 1) / n * bytes};
  if (kind != Collective::all_reduce || group.nodes == 1) return ring;
  const int levels = std::bit_width(static_cast<unsigned>(group.nodes - 1));
  const CollectiveCost tree{
      .latency = 2 * ((group.per_node - 1) * links.inside.latency + levels * links.between.latency),
      .bytes = 2 * bytes / tree_efficiency};
  const double bandwidth = collective_bandwidth(group, links);
  return tree.latency + tree.bytes / bandwidth < ring.latency + ring.bytes / bandwidth ? tree : ring;
}

double collective_bandwidth(const GroupSpan& group, const Links& links) {
  const double between = std::min(group.per_node, links.adapters) * links.between.bandwidth;
  if (group.nodes == 1) return links.inside.bandwidth;
  return group.per_node == 1 ? between : std::min(links.inside.bandwidth, between);
}

double collective_seconds(Collective kind, double bytes, const GroupSpan& group, const Links& links) {
  const CollectiveCost cost = collective_cost(kind, bytes, group, links);
  return cost.latency + cost.bytes / collective_bandwidth(group, links);
}

}  // namespace foretoken
