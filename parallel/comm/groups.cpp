#include "parallel/comm/groups.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace foretoken {

Groups make_groups(MpiCommunicator& world, const Grid& grid, Stream& stream,
                   const std::vector<std::vector<int>>& holders) {
  validate(grid, world.size());
  const int pp_rank = grid.pp_rank_of(world.rank()), dp_rank = grid.dp_rank_of(world.rank());
  Groups groups{.grid = grid,
                .pp_rank = pp_rank,
                .dp_rank = dp_rank,
                .world = world,
                .transport = make_transport(world, stream)};
  const auto connect = [&](int color, int key, std::string name, const Traffic& traffic) {
    auto ranks = world.split(color, key, std::move(name));
    return ranks ? groups.transport->connect(std::move(ranks), traffic) : nullptr;
  };
  groups.device_world = connect(0, world.rank(), world.name(), {.collectives = true});
  groups.pipeline = connect(dp_rank, pp_rank, fmt::format("pipeline of dp{}", dp_rank),
                            {.neighbour_messages = true, .ring = grid.virtual_stages > 1});
  groups.dp = connect(pp_rank, dp_rank, fmt::format("dp of pp{}", pp_rank), {.collectives = true});
  for (const std::vector<int>& ranks : holders) {
    const bool holds = std::find(ranks.begin(), ranks.end(), pp_rank) != ranks.end();
    auto group =
        connect(holds ? dp_rank : -1, pp_rank, fmt::format("pp{} of dp{}", fmt::join(ranks, ","), dp_rank),
                {.collectives = true, .may_start_early = true});
    if (group) groups.holders.emplace(ranks, std::move(group));
  }
  return groups;
}

}  // namespace foretoken
