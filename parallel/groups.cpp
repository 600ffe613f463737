#include "parallel/groups.h"

#include <fmt/format.h>

namespace foretoken {

Groups make_groups(MpiCommunicator& world, const Grid& grid) {
  validate(grid, world.size());
  const int pp_rank = grid.pp_rank_of(world.rank()), dp_rank = grid.dp_rank_of(world.rank());
  const bool at_an_end = grid.pp > 1 && (pp_rank == 0 || pp_rank == grid.pp - 1);
  return {.grid = grid,
          .pp_rank = pp_rank,
          .dp_rank = dp_rank,
          .world = world,
          .pipeline = world.split(dp_rank, pp_rank, fmt::format("pipeline of dp{}", dp_rank)),
          .dp = world.split(pp_rank, dp_rank, fmt::format("dp of pp{}", pp_rank)),
          .ends = world.split(at_an_end ? dp_rank : -1, pp_rank, fmt::format("ends of dp{}", dp_rank))};
}

}  // namespace foretoken
