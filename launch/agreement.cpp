#include "launch/agreement.h"

#include <array>
#include <span>

namespace foretoken {

std::string broadcast_text(Communicator& world, const std::string& text, int root) {
  std::array<std::int64_t, 1> size{static_cast<std::int64_t>(text.size())};
  world.broadcast(tensor_over<std::int64_t>(size, {1}), root);
  std::string received = world.rank() == root ? text : std::string(static_cast<std::size_t>(size[0]), '\0');
  if (size[0] == 0) return received;
  const std::span<std::uint8_t> bytes(reinterpret_cast<std::uint8_t*>(received.data()), received.size());
  world.broadcast(tensor_over(bytes, {size[0]}), root);
  return received;
}

std::string first_fault(Communicator& world, const std::string& fault) {
  std::array<std::int64_t, 1> first{fault.empty() ? world.size() : world.rank()};
  world.all_reduce(tensor_over<std::int64_t>(first, {1}), ReduceOp::min);
  if (first[0] == world.size()) return {};
  return broadcast_text(world, fault, static_cast<int>(first[0]));
}

}  // namespace foretoken
