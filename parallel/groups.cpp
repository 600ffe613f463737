#include "parallel/groups.h"

#include <utility>

#include <fmt/format.h>

namespace foretoken {

Groups make_groups(MpiCommunicator& world, const Grid& grid, Stream& stream) {
  validate(grid, world.size());
  const int pp_rank = grid.pp_rank_of(world.rank()), dp_rank = grid.dp_rank_of(world.rank());
  const bool at_an_end = grid.pp > 1 && (pp_rank == 0 || pp_rank == grid.pp - 1);
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
                            {.neighbours = true, .around = grid.virtual_stages > 1});
  groups.dp = connect(pp_rank, dp_rank, fmt::format("dp of pp{}", pp_rank), {.collectives = true});
  groups.ends =
      connect(at_an_end ? dp_rank : -1, pp_rank, fmt::format("ends of dp{}", dp_rank), {.neighbours = true});
  return groups;
}

}  // namespace foretoken
