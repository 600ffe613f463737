#include "launch/session/agreement.h"

#include <array>
#include <span>
#include <utility>

namespace foretoken {

namespace {

Tensor bytes_of(std::string& text) {
  const std::span bytes(reinterpret_cast<std::uint8_t*>(text.data()), text.size());
  return tensor_over(bytes, {static_cast<std::int64_t>(text.size())});
}

}  // namespace

std::string broadcast_text(Communicator& world, const std::string& text, int root) {
  std::array<std::int64_t, 1> size{static_cast<std::int64_t>(text.size())};
  world.broadcast(tensor_over<std::int64_t>(size, {1}), root);
  std::string received = world.rank() == root ? text : std::string(static_cast<std::size_t>(size[0]), '\0');
  if (size[0] == 0) return received;
  world.broadcast(bytes_of(received), root);
  return received;
}

std::vector<std::string> gather_texts(Communicator& world, const std::string& text) {
  std::array<std::int64_t, 1> size{static_cast<std::int64_t>(text.size())};
  std::string own = text;
  if (world.rank() > 0) {
    world.send(tensor_over<std::int64_t>(size, {1}), 0, 0);
    world.send(bytes_of(own), 0, 0);
    return {};
  }
  std::vector<std::string> texts{std::move(own)};
  for (int rank = 1; rank < world.size(); ++rank) {
    world.receive(tensor_over<std::int64_t>(size, {1}), rank, 0);
    std::string& received = texts.emplace_back(static_cast<std::size_t>(size[0]), '\0');
    world.receive(bytes_of(received), rank, 0);
  }
  return texts;
}

std::string first_error(Communicator& world, const std::string& message) {
  std::array<std::int64_t, 1> first{message.empty() ? world.size() : world.rank()};
  world.all_reduce(tensor_over<std::int64_t>(first, {1}), ReduceOp::min);
  if (first[0] == world.size()) return {};
  return broadcast_text(world, message, static_cast<int>(first[0]));
}

}  // namespace foretoken
