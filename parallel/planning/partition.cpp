#include "parallel/planning/partition.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#include "runtime/error.h"

namespace foretoken {

namespace {

int trunk_stages(const LayerCosts& costs, int stages) {
  return stages - static_cast<int>(costs.after.size());
}

/// Computes costs of runs of halves from prefix sums.
class RunCosts {
 public:
  RunCosts(const LayerCosts& costs, int stages)
      : costs_(costs), trunk_(trunk_stages(costs, stages)), sums_(1, 0.0) {
    for (const StageDurations& half : costs.halves) sums_.push_back(sums_.back() + half.total());
  }

  /// Cost of a stage that holds halves [begin, end).
  double operator()(int stage, int begin, int end) const {
    if (stage >= trunk_) return costs_.after[static_cast<std::size_t>(stage - trunk_)].total();
    return sums_[static_cast<std::size_t>(end)] - sums_[static_cast<std::size_t>(begin)] +
           (stage == 0 ? costs_.first.total() : 0) + (stage == trunk_ - 1 ? costs_.last.total() : 0);
  }

 private:
  const LayerCosts& costs_;
  int trunk_;  // number of trunk stages
  std::vector<double> sums_;
};

/// The number of halves per stage, and the value of this partition.
struct Assignment {
  std::vector<int> halves;
  double value;
};

/// Returns the partition with the least value, by dynamic programming from the last stage to the first.
/// value_of(stage, begin, end) is the value of a stage with halves [begin, end); join(own, later) combines it
/// with the value of the later stages. best(stage, begin) is the least value of `stage` and all later stages
/// if they hold the halves from `begin` on. value_of() must not fall as `end` grows, and join() must be at
/// least each of its arguments, because the search stops increasing `end` when the stage's own value reaches
/// the best. On a tie the earlier stage has fewer halves.
template <class Value, class Join>
Assignment assign_halves(const LayerCosts& costs, int stages, Value value_of, Join join) {
  const int halves = static_cast<int>(costs.halves.size());
  constexpr double never = std::numeric_limits<double>::infinity();
  const auto columns = static_cast<std::size_t>(halves) + 1;
  const auto at = [columns](int stage, int begin) {
    return static_cast<std::size_t>(stage) * columns + static_cast<std::size_t>(begin);
  };
  std::vector<double> best(static_cast<std::size_t>(stages) * columns, never);
  std::vector<int> count(best.size(), 0);
  const int last_begin = halves - costs.fewest_on_last;
  for (int begin = costs.last_apart ? last_begin : 0; begin <= last_begin; ++begin) {
    best[at(stages - 1, begin)] = value_of(stages - 1, begin, halves);
    count[at(stages - 1, begin)] = halves - begin;
  }
  for (int stage = stages - 2; stage >= 0; --stage)
    for (int begin = stage; begin < (stage == 0 ? 1 : halves); ++begin)
      for (int end = begin + 1; end <= halves; ++end) {
        const double own = value_of(stage, begin, end);
        if (own >= best[at(stage, begin)]) break;
        const double value = join(own, best[at(stage + 1, end)]);
        if (value < best[at(stage, begin)]) {
          best[at(stage, begin)] = value;
          count[at(stage, begin)] = end - begin;
        }
      }
  Assignment assignment{{}, best[at(0, 0)]};
  for (int stage = 0, begin = 0; stage < stages; begin += assignment.halves.back(), ++stage)
    assignment.halves.push_back(count[at(stage, begin)]);
  return assignment;
}

std::string describe_stages(const Grid& grid) {
  return fmt::format("pp {} × v {} = {} stage{}", grid.pp, grid.virtual_stages, grid.stages(),
                     grid.stages() == 1 ? "" : "s");
}

/// Examples: "13", "13.5".
std::string in_layers(std::int64_t halves) {
  return fmt::format("{:g}", static_cast<double>(halves) / 2);
}

std::string counted_layers(std::int64_t halves) {
  return fmt::format("{} layer{}", in_layers(halves), halves == 2 ? "" : "s");
}

void require_costs(const LayerCosts& costs) {
  std::vector<StageDurations> all = costs.halves;
  all.insert(all.end(), costs.after.begin(), costs.after.end());
  all.insert(all.end(), {costs.first, costs.last});
  for (const StageDurations& cost : all)
    for (const double part : {cost.forward, cost.backward_input, cost.backward_weight})
      if (!std::isfinite(part) || part < 0)
        throw DefectError("partition: a cost is negative or not finite: forward {}, backward {} and {}",
                          cost.forward, cost.backward_input, cost.backward_weight);
}

}  // namespace

void require_enough_layers(const LayerCosts& costs, const Grid& grid) {
  const int trunk = trunk_stages(costs, grid.stages());
  const int fewest = trunk - 1 + costs.fewest_on_last;
  const auto halves = static_cast<int>(costs.halves.size());
  if (trunk >= 1 && halves >= fewest && !(costs.last_apart && trunk == 1 && halves > fewest)) return;
  const std::string of_trunk =
      costs.after.empty() ? "" : fmt::format(", {} of them with layers,", std::max(0, trunk));
  if (trunk < (costs.last_apart ? 2 : 1))
    throw UsageError("partition: {}{} leave no stage for the trunk", describe_stages(grid), of_trunk);
  throw UsageError("partition: {}{} need at least {}, the model has {}", describe_stages(grid), of_trunk,
                   counted_layers(fewest), in_layers(halves));
}

HalvesRange range_of_halves(const LayerCosts& costs, int stage, int stages) {
  const int last = trunk_stages(costs, stages) - 1;
  if (stage > last) return {0, 0};
  const auto all = static_cast<int>(costs.halves.size());
  if (stage < last) return {1, all};
  return {costs.fewest_on_last, costs.last_apart ? costs.fewest_on_last : all};
}

std::vector<int> partition_layers(const LayerCosts& costs, const Grid& grid) {
  require_enough_layers(costs, grid);
  require_costs(costs);

  const int stages = trunk_stages(costs, grid.stages());
  const RunCosts cost(costs, grid.stages());
  double bottleneck =
      assign_halves(costs, stages, cost, [](double a, double b) { return std::max(a, b); }).value;
  for (const StageDurations& fixed : costs.after) bottleneck = std::max(bottleneck, fixed.total());
  // Prefix sums are rounded, so equal costs may differ in their last bits.
  const double allowed = bottleneck * (1 + 1e-9);
  // Weight of a cut inside a layer: more than any possible sum of squares.
  const auto cut_inside = 1 + static_cast<double>(costs.halves.size() * costs.halves.size());
  const auto unevenness = [&](int stage, int begin, int end) {
    const double count = end - begin;
    return cost(stage, begin, end) <= allowed ? count * count + (begin % 2 == 1 ? cut_inside : 0)
                                              : std::numeric_limits<double>::infinity();
  };
  std::vector<int> halves =
      assign_halves(costs, stages, unevenness, [](double a, double b) { return a + b; }).halves;
  halves.resize(static_cast<std::size_t>(grid.stages()), 0);
  return halves;
}

std::vector<int> halves_of(const std::vector<double>& layers) {
  std::vector<int> halves;
  for (const double count : layers) halves.push_back(static_cast<int>(std::lround(2 * count)));
  return halves;
}

void validate_partition(const std::vector<int>& halves, const LayerCosts& costs, const Grid& grid) {
  require_enough_layers(costs, grid);
  std::vector<std::string> entries;
  for (const int count : halves) entries.push_back(in_layers(count));
  const std::string given = fmt::format("partition: [{}]", fmt::join(entries, ", "));
  if (halves.size() != static_cast<std::size_t>(grid.stages()))
    throw UsageError("{}: {} entries, expected {}", given, halves.size(), describe_stages(grid));
  for (int stage = 0; stage < grid.stages(); ++stage) {
    const int count = halves[static_cast<std::size_t>(stage)];
    const auto [least, most] = range_of_halves(costs, stage, grid.stages());
    if (count < least || (least == most && count > most))
      throw UsageError("{}: stage {} has {} layers, expected {}{}", given, stage, in_layers(count),
                       least == most ? "" : "at least ", in_layers(least));
  }
  const auto sum = std::accumulate(halves.begin(), halves.end(), std::int64_t{0});
  if (sum != std::ssize(costs.halves))
    throw UsageError("{}: {}, but the model has {}", given, counted_layers(sum),
                     in_layers(std::ssize(costs.halves)));
}

std::vector<StageDurations> stage_costs(const LayerCosts& costs, const std::vector<int>& halves) {
  std::vector<StageDurations> stages;
  stage_costs(costs, halves, stages);
  return stages;
}

void stage_costs(const LayerCosts& costs, const std::vector<int>& halves,
                 std::vector<StageDurations>& stages) {
  const std::size_t last = halves.size() - costs.after.size() - 1;
  stages.assign(halves.size(), {});
  auto half = costs.halves.begin();
  for (std::size_t stage = 0; stage <= last; ++stage)
    for (int i = 0; i < halves[stage]; ++i) stages[stage] += *half++;
  stages.front() += costs.first;
  stages[last] += costs.last;
  std::copy(costs.after.begin(), costs.after.end(), stages.begin() + static_cast<std::ptrdiff_t>(last) + 1);
}

}  // namespace foretoken
