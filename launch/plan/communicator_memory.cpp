#include "launch/plan/communicator_memory.h"

#include <algorithm>
#include <vector>

#include "launch/config/layout.h"
#include "model/layout.h"

namespace foretoken {

namespace {

constexpr std::size_t mib = std::size_t{1} << 20;

// Measured with NCCL 2.28.3 on two H200 connected by NVLink, by its log of allocations. A channel's receiving
// end has the buffers of all three protocols: 0.5 MiB (LL), 4.7 MiB (LL128) and 4 MiB (Simple). Every
// allocation is rounded up to 2 MiB.
constexpr std::size_t sending_end = 2 * mib, receiving_end = 10 * mib;
/// Channels of a ring, and the channels for which the communicator allocates three structures each.
constexpr std::size_t ring_channels = 24, described_ring_channels = 32;
/// Both for a link for messages or for shared weights (parallel/comm/cuda/nccl_communicator.cpp).
constexpr std::size_t link_channels = 16;
constexpr std::size_t structures_per_channel = 3 * 2 * mib;
/// What the device has less for each further communicator than NCCL's log explains.
constexpr std::size_t of_communicator = 34 * mib;
/// What the device has less once NCCL runs: its kernels and the mapping of the other GPUs' memory.
constexpr std::size_t of_nccl = 350 * mib;

}  // namespace

std::size_t CommunicatorMemory::bytes(const Config& config, const Grid& grid) {
  if (grid.world() == 1) return 0;
  const auto [found, is_new] =
      known_.try_emplace({grid.pp, grid.virtual_stages, grid.dp > 1, static_cast<int>(config.mtp.placement)});
  if (!is_new) return found->second;
  const std::vector<std::vector<int>> sharing =
      sharing_ranks(config.model, config.mtp, even_layout(config, grid, Purpose::train));
  constexpr std::size_t both_ends = sending_end + receiving_end;
  const auto communicator = [](std::size_t channels) {
    return channels * structures_per_channel + of_communicator;
  };
  const std::size_t collectives =
      (grid.dp > 1 ? 2 : 1) * (ring_channels * both_ends + communicator(described_ring_channels));
  for (int pp_rank = 0; pp_rank < grid.pp; ++pp_rank) {
    const bool ring = grid.pp > 1 && grid.virtual_stages > 1;
    const std::size_t neighbours = (ring || pp_rank > 0 ? 1 : 0) + (ring || pp_rank + 1 < grid.pp ? 1 : 0);
    const auto shared = static_cast<std::size_t>(
        std::count_if(sharing.begin(), sharing.end(), [&](const std::vector<int>& ranks) {
          return std::find(ranks.begin(), ranks.end(), pp_rank) != ranks.end();
        }));
    const std::size_t buffers = (neighbours + shared) * link_channels * both_ends;
    const std::size_t communicators = (2 * neighbours + shared) * communicator(link_channels);
    found->second = std::max(found->second, of_nccl + collectives + buffers + communicators);
  }
  return found->second;
}

}  // namespace foretoken
