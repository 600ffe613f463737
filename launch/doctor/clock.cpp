#include "launch/doctor/measure.h"

namespace foretoken {

std::optional<ClockOffset> measure_clock(MpiCommunicator& world) {
  std::vector<std::int32_t> first(static_cast<std::size_t>(world.size()));  // whether a rank leads its host
  const Tensor all = tensor_over<std::int32_t>(first, {world.size()});
  first[static_cast<std::size_t>(world.rank())] = world.world().local_rank() == 0 ? 1 : 0;
  world.all_gather(all.flat(world.rank(), 1), all);
  std::optional<ClockOffset> own;
  for (int rank = 1; rank < world.size(); ++rank)
    if (first[static_cast<std::size_t>(rank)] != 0 && (world.rank() == 0 || world.rank() == rank)) {
      const ClockOffset offset = measure_clock_offset(world, rank);
      if (world.rank() == rank) own = offset;
    }
  return own;
}

}  // namespace foretoken
