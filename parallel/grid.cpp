#include "parallel/grid.h"

#include <cstdint>

#include <fmt/format.h>

#include "runtime/error.h"

namespace foretoken {

void validate(const Grid& grid, int world_size) {
  if (grid.pp < 1 || grid.dp < 1 || grid.virtual_stages < 1)
    throw UsageError("parallel: {}: every factor must be at least 1", to_string(grid));
  const std::int64_t ranks = std::int64_t{grid.pp} * grid.dp;  // may exceed the range of int
  if (ranks != world_size)
    throw UsageError("parallel: pp {} × dp {} = {}, but the world has {} rank{}", grid.pp, grid.dp, ranks,
                     world_size, world_size == 1 ? "" : "s");
}

std::string to_string(const Grid& grid) {
  return fmt::format("pp {} × dp {} × v {}", grid.pp, grid.dp, grid.virtual_stages);
}

}  // namespace foretoken
