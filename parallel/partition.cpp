#include "parallel/partition.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#include "runtime/error.h"

namespace foretoken {

namespace {

/// Costs of runs of blocks, by prefix sums.
class RunCosts {
 public:
  RunCosts(const LayerCosts& costs, int stages) : costs_(costs), stages_(stages), sums_(1, 0.0) {
    for (const double block : costs.blocks) sums_.push_back(sums_.back() + block);
  }

  /// Of a stage that holds blocks [begin, end).
  double operator()(int stage, int begin, int end) const {
    return sums_[static_cast<std::size_t>(end)] - sums_[static_cast<std::size_t>(begin)] +
           (stage == 0 ? costs_.first : 0) + (stage == stages_ - 1 ? costs_.last : 0);
  }

 private:
  const LayerCosts& costs_;
  int stages_;
  std::vector<double> sums_;
};

/// Dynamic programming from the last stage to the first: best(stage, begin) is the least value of stages
/// stage.. that share blocks [begin, L), where a stage's own value and that of the rest are joined by `join`.
/// Returns the block counts of the best whole and its value; ties go to fewer blocks on the earlier stage.
struct Dealt {
  std::vector<int> blocks;
  double value;
};

template <class Value, class Join>
Dealt deal(int layers, int stages, int fewest_on_last, Value value_of, Join join) {
  constexpr double never = std::numeric_limits<double>::infinity();
  const auto columns = static_cast<std::size_t>(layers) + 1;
  const auto at = [columns](int stage, int begin) {
    return static_cast<std::size_t>(stage) * columns + static_cast<std::size_t>(begin);
  };
  std::vector<double> best(static_cast<std::size_t>(stages) * columns, never);
  std::vector<int> count(best.size(), 0);
  for (int begin = 0; begin <= layers - fewest_on_last; ++begin) {
    best[at(stages - 1, begin)] = value_of(stages - 1, begin, layers);
    count[at(stages - 1, begin)] = layers - begin;
  }
  for (int stage = stages - 2; stage >= 0; --stage)
    for (int begin = 0; begin < layers; ++begin)
      for (int end = begin + 1; end <= layers; ++end) {
        const double value = join(value_of(stage, begin, end), best[at(stage + 1, end)]);
        if (value < best[at(stage, begin)]) {
          best[at(stage, begin)] = value;
          count[at(stage, begin)] = end - begin;
        }
      }
  Dealt dealt{{}, best[at(0, 0)]};
  for (int stage = 0, begin = 0; stage < stages; begin += dealt.blocks.back(), ++stage)
    dealt.blocks.push_back(count[at(stage, begin)]);
  return dealt;
}

std::string describe_stages(const Grid& grid) {
  return fmt::format("pp {} × v {} = {} stage{}", grid.pp, grid.virtual_stages, grid.stages(),
                     grid.stages() == 1 ? "" : "s");
}

void require_enough_layers(int layers, const Grid& grid, int fewest_on_last) {
  const int fewest = grid.stages() - 1 + fewest_on_last;
  if (layers < fewest)
    throw UsageError("partition: {} need at least {} layer{}, the model has {}", describe_stages(grid),
                     fewest, fewest == 1 ? "" : "s", layers);
}

}  // namespace

std::vector<int> partition_layers(const LayerCosts& costs, const Grid& grid) {
  const int layers = static_cast<int>(costs.blocks.size());
  const int stages = grid.stages();
  require_enough_layers(layers, grid, costs.fewest_on_last);
  const auto is_cost = [](double cost) { return std::isfinite(cost) && cost >= 0; };
  if (!std::all_of(costs.blocks.begin(), costs.blocks.end(), is_cost) || !is_cost(costs.first) ||
      !is_cost(costs.last))
    throw DefectError("partition: a cost is negative or not finite: blocks {}, first {}, last {}",
                      fmt::join(costs.blocks, " "), costs.first, costs.last);

  const RunCosts cost(costs, stages);
  const int fewest = costs.fewest_on_last;
  const double dearest =
      deal(layers, stages, fewest, cost, [](double a, double b) { return std::max(a, b); }).value;
  // Prefix sums round: equal costs may differ in their last bits.
  const double allowed = dearest * (1 + 1e-9);
  const auto squares = [&](int stage, int begin, int end) {
    const double count = end - begin;
    return cost(stage, begin, end) <= allowed ? count * count : std::numeric_limits<double>::infinity();
  };
  return deal(layers, stages, fewest, squares, [](double a, double b) { return a + b; }).blocks;
}

void validate_partition(const std::vector<int>& blocks, int layers, const Grid& grid, int fewest_on_last) {
  require_enough_layers(layers, grid, fewest_on_last);
  const std::string given = fmt::format("partition: [{}]", fmt::join(blocks, ", "));
  if (blocks.size() != static_cast<std::size_t>(grid.stages()))
    throw UsageError("{}: {} entries, expected {}", given, blocks.size(), describe_stages(grid));
  for (std::size_t stage = 0; stage < blocks.size(); ++stage) {
    const int least = stage + 1 == blocks.size() ? fewest_on_last : 1;
    if (blocks[stage] < least)
      throw UsageError("{}: stage {} has {} blocks, expected at least {}", given, stage, blocks[stage],
                       least);
  }
  const auto sum = std::accumulate(blocks.begin(), blocks.end(), std::int64_t{0});
  if (sum != layers) throw UsageError("{}: {} blocks, but the model has {} layers", given, sum, layers);
}

std::vector<double> stage_costs(const LayerCosts& costs, const std::vector<int>& blocks) {
  const RunCosts cost(costs, static_cast<int>(blocks.size()));
  std::vector<double> stages;
  for (int stage = 0, begin = 0; stage < static_cast<int>(blocks.size()); ++stage) {
    const int end = begin + blocks[static_cast<std::size_t>(stage)];
    stages.push_back(cost(stage, begin, end));
    begin = end;
  }
  return stages;
}

}  // namespace foretoken
