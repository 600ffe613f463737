#include "model/decoder/trunk_pipeline.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "model/heads/head_facts.h"
#include "model/layers/block.h"
#include "parallel/planning/partition.h"

namespace foretoken {

namespace {

constexpr int states_tag = 0;
/// Capacity of an order's first message, in numbers. An order of few rows needs no second message.
constexpr std::size_t first_part = 254;

double elements_of(const std::vector<ParameterSpec>& specs) {
  double elements = 0;
  for (const ParameterSpec& spec : specs) elements += static_cast<double>(spec.shape.elements());
  return elements;
}

}  // namespace

ModelLayout decoding_layout(const ModelConfig& model, const MtpConfig& mtp, int stages) {
  const auto halves = static_cast<int>(2 * model.num_hidden_layers);
  const ModelLayout ends{.grid = {.pp = 2}, .halves_per_stage = {halves, 0}};
  LayerCosts costs;
  for (int half = 0; half < halves; ++half)
    costs.halves.push_back({elements_of(
        Block::parameters(model, "", half % 2 == 0 ? Block::Part::attention : Block::Part::mlp))});
  costs.first = {static_cast<double>(model.vocab_size * model.hidden_size)};
  for (const ParameterUnit& unit : units_of(model, mtp, ends, 1)) costs.last += {elements_of(unit.specs)};
  costs.fewest_on_last = mtp.depths > 0 && head_facts(mtp.kind).reads_last_input ? 2 : 0;
  const Grid grid{.pp = stages};
  return {.grid = grid, .halves_per_stage = partition_layers(costs, grid)};
}

TrunkPipeline::TrunkPipeline(MpiCommunicator& world, Stream& stream, ModelLayout layout)
    : layout_(std::move(layout)), transport_(make_transport(world, stream)) {
  const int pipeline = world.rank() / layout_.stages();
  ranks_ = transport_->connect(world.split(pipeline, -world.rank(), fmt::format("pipeline {}", pipeline)),
                               {.neighbour_messages = true});
}

void TrunkPipeline::receive(const Tensor& x) {
  if (!is_first()) ranks_->receive(x, stage() - 1, states_tag);
}

void TrunkPipeline::send(const Tensor& x) {
  if (!is_last()) ranks_->send(x, stage() + 1, states_tag);
}

void TrunkPipeline::send_order(Order order, std::span<const std::int32_t> numbers) {
  std::array<std::int32_t, 2 + first_part> head{static_cast<std::int32_t>(order),
                                                static_cast<std::int32_t>(numbers.size())};
  const std::size_t part = std::min(first_part, numbers.size());
  std::copy_n(numbers.begin(), part, head.begin() + 2);
  broadcast(head);
  if (numbers.size() == part) return;
  std::vector<std::int32_t> rest(numbers.begin() + part, numbers.end());
  broadcast(rest);
}

TrunkPipeline::Order TrunkPipeline::receive_order(std::vector<std::int32_t>& numbers) {
  std::array<std::int32_t, 2 + first_part> head{};
  broadcast(head);
  numbers.resize(static_cast<std::size_t>(head[1]));
  const std::size_t part = std::min(first_part, numbers.size());
  std::copy_n(head.begin() + 2, part, numbers.begin());
  if (numbers.size() > part) broadcast(std::span(numbers).subspan(part));
  return static_cast<Order>(head[0]);
}

void TrunkPipeline::broadcast(std::span<std::int32_t> numbers) {
  ranks_->host().broadcast(tensor_over(numbers, {std::ssize(numbers)}), layout_.stages() - 1);
}

}  // namespace foretoken
