// Chooses the transport of a GPU rank.
#include <array>
#include <span>
#include <vector>

#include "parallel/comm/cuda/nccl_transport.h"
#include "parallel/comm/cuda/staged_transport.h"

namespace foretoken::cuda {

namespace {

using Uuid = std::array<std::uint8_t, 16>;

/// UUID of each rank's current GPU.
std::vector<Uuid> gpus_of(MpiCommunicator& world) {
  int device = 0;
  cudaDeviceProp properties{};
  check(cudaGetDevice(&device), "device");
  check(cudaGetDeviceProperties(&properties, device), "device");
  std::vector<Uuid> uuids(static_cast<std::size_t>(world.size()));
  Uuid& own = uuids[static_cast<std::size_t>(world.rank())];
  std::copy_n(reinterpret_cast<const std::uint8_t*>(properties.uuid.bytes), own.size(), own.begin());
  constexpr auto bytes = static_cast<std::int64_t>(sizeof(Uuid));
  const Tensor all{uuids.data(), DType::u8, DeviceKind::cpu, {bytes * world.size()}};
  world.all_gather(all.flat(bytes * world.rank(), bytes), all);
  return uuids;
}

/// "ranks 0 and 1 share a GPU" for the first GPU that several ranks use; empty if each rank has its own.
std::string sharing(const std::vector<Uuid>& uuids) {
  for (std::size_t first = 0; first < uuids.size(); ++first) {
    std::vector<std::size_t> ranks;
    for (std::size_t rank = first; rank < uuids.size(); ++rank)
      if (uuids[rank] == uuids[first]) ranks.push_back(rank);
    if (ranks.size() == 1) continue;
    std::string text = fmt::format("ranks {}", ranks.front());
    for (std::size_t i = 1; i < ranks.size(); ++i)
      text += fmt::format("{}{}", i + 1 < ranks.size() ? ", " : " and ", ranks[i]);
    return text + " share a GPU";
  }
  return "";
}

}  // namespace

std::unique_ptr<Transport> make_transport(MpiCommunicator& world, Stream& stream) {
  const std::string shared = sharing(gpus_of(world));
  if (shared.empty()) return std::make_unique<NcclTransport>(world.world(), stream);
  return std::make_unique<StagedTransport>(world.world(), stream, shared);
}

}  // namespace foretoken::cuda
