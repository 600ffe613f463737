#include "parallel/planning/partition.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>

#include "runtime/error.h"
#include "runtime/random.h"
#include "tests/support/catch.h"

using namespace foretoken;
using foretoken::testing::contains;

namespace {

Grid grid_of(int pp, int v = 1) {
  return {pp, 1, v};
}

LayerCosts halves(const std::vector<double>& costs, double first = 0, double last = 0) {
  LayerCosts all{.first = {first}, .last = {last}};
  for (const double cost : costs) all.halves.push_back({cost});
  return all;
}

LayerCosts equal_costs(int layers, double first, double last) {
  return halves(std::vector<double>(2 * static_cast<std::size_t>(layers), 0.5), first, last);
}

double bottleneck(const LayerCosts& costs, const std::vector<int>& halves) {
  double most = 0;
  for (const StageDurations& stage : stage_costs(costs, halves)) most = std::max(most, stage.total());
  return most;
}

int cuts_inside(const std::vector<int>& halves) {
  int cuts = 0;
  for (std::size_t stage = 0, end = 0; stage + 1 < halves.size(); ++stage) {
    end += static_cast<std::size_t>(halves[stage]);
    cuts += end % 2 == 1;
  }
  return cuts;
}

/// Calls body with every partition of `left` halves over the remaining stages.
template <class Body>
void every_partition(std::vector<int>& halves, int stages, int left, int fewest_on_last, const Body& body) {
  const bool last = static_cast<int>(halves.size()) == stages - 1;
  for (int count = last ? left : 1; count <= left; ++count) {
    if (last && count < fewest_on_last) return;
    halves.push_back(count);
    if (last)
      body(halves);
    else
      every_partition(halves, stages, left - count, fewest_on_last, body);
    halves.pop_back();
  }
}

}  // namespace

TEST_CASE("equal layers without fixed costs are assigned evenly, uncut, and fewer to earlier stages") {
  CHECK(partition_layers(equal_costs(8, 0, 0), grid_of(4)) == std::vector<int>{4, 4, 4, 4});
  CHECK(partition_layers(equal_costs(5, 0, 0), grid_of(1)) == std::vector<int>{10});
  CHECK(partition_layers(halves(std::vector<double>(18, 0.1)), grid_of(3)) == std::vector<int>{6, 6, 6});
  CHECK(partition_layers(equal_costs(11, 0, 0.5), grid_of(2)) == std::vector<int>{12, 10});
  // Two stages cost 6 in every partition, so a cut inside a layer would not lower the bottleneck.
  CHECK(partition_layers(halves({3, 3, 3, 3, 1, 1, 3, 3}), grid_of(4)) == std::vector<int>{2, 2, 2, 2});
}

TEST_CASE("a layer is cut if that makes the bottleneck stage less expensive") {
  CHECK(partition_layers(equal_costs(10, 0, 0), grid_of(4)) == std::vector<int>{5, 5, 5, 5});
  CHECK(partition_layers(equal_costs(10, 0, 0), grid_of(2, 2)) == std::vector<int>{5, 5, 5, 5});
  CHECK(partition_layers(halves({2, 3, 2, 3, 2, 3}), grid_of(2)) == std::vector<int>{3, 3});
  CHECK(partition_layers(halves({1, 4, 1, 4, 1, 4}), grid_of(2)) == std::vector<int>{3, 3});
  CHECK(partition_layers(halves({1, 4, 1, 4}, 0, 5), grid_of(2)) == std::vector<int>{3, 1});
  CHECK(partition_layers(halves({1, 4, 1, 4}, 0, 9), grid_of(2)) == std::vector<int>{4, 0});
}

TEST_CASE(
    "the first stage has fewer layers because of the embedding, the last because of the head and MTP "
    "modules") {
  CHECK(partition_layers(equal_costs(12, 0, 4), grid_of(4)) == std::vector<int>{8, 8, 8, 0});
  CHECK(partition_layers(equal_costs(12, 0, 2), grid_of(4)) == std::vector<int>{7, 7, 7, 3});
  CHECK(partition_layers(equal_costs(10, 1, 1), grid_of(3)) == std::vector<int>{6, 8, 6});
  CHECK(partition_layers(equal_costs(3, 0, 100), grid_of(4)) == std::vector<int>{2, 2, 2, 0});
  LayerCosts with_last = equal_costs(12, 0, 4);
  with_last.fewest_on_last = 2;
  CHECK(partition_layers(with_last, grid_of(4)).back() == 2);
}

TEST_CASE("a partition has the smallest bottleneck possible, and then the fewest cuts inside layers") {
  const CounterRng rng(7, "partition");
  for (std::uint64_t trial = 0; trial < 80; ++trial) {
    const int layers = 3 + static_cast<int>(rng.u64(4 * trial) % 4);
    const int stages = 1 + static_cast<int>(rng.u64(4 * trial + 1) % 4);
    LayerCosts costs = halves({}, 2 * rng.uniform(1000 + trial), 4 * rng.uniform(2000 + trial));
    costs.fewest_on_last = static_cast<int>(rng.u64(4 * trial + 2) % 2) * 2;
    // The costs have few different values, so that ties occur.
    for (int i = 0; i < 2 * layers; ++i)
      costs.halves.push_back(
          {1.0 + static_cast<double>(rng.u64(10'000 + 100 * trial + static_cast<std::uint64_t>(i)) % 3)});
    const std::vector<int> halves = partition_layers(costs, grid_of(stages));
    INFO("trial " << trial << " layers " << layers << " stages " << stages);
    CHECK_NOTHROW(validate_partition(halves, costs, grid_of(stages)));
    double least = std::numeric_limits<double>::infinity();
    int fewest_cuts = stages;
    std::vector<int> tried;
    every_partition(tried, stages, 2 * layers, costs.fewest_on_last, [&](const std::vector<int>& other) {
      const double value = bottleneck(costs, other);
      if (value > least * (1 + 1e-12)) return;
      fewest_cuts =
          value < least * (1 - 1e-12) ? cuts_inside(other) : std::min(fewest_cuts, cuts_inside(other));
      least = value;
    });
    CHECK(bottleneck(costs, halves) == Approx(least).epsilon(1e-8));
    CHECK(cuts_inside(halves) == fewest_cuts);
  }
}

TEST_CASE("stage costs hold the fixed costs of the ends") {
  using Stages = std::vector<StageDurations>;
  CHECK(stage_costs(halves({1, 2, 3}, 10, 20), {1, 2, 0}) == Stages{{11}, {5}, {20}});
  CHECK(stage_costs(halves({1, 2, 3}, 10, 20), {3}) == Stages{{36}});
  const LayerCosts apart{
      .halves = {{1, 2, 3}, {4, 5, 6}}, .first = {}, .last = {0, 7, 0}, .after = {{8, 9, 0}}};
  CHECK(stage_costs(apart, {1, 1, 0}) == Stages{{1, 2, 3}, {4, 12, 6}, {8, 9, 0}});
}

TEST_CASE("thousands of layers over hundreds of stages are divided as evenly as a few are") {
  const std::vector<int> halves = partition_layers(equal_costs(4096, 0, 0), grid_of(512));
  CHECK(halves == std::vector<int>(512, 16));
}

TEST_CASE("too few layers are a usage error with both counts") {
  CHECK_THROWS_WITH(partition_layers(equal_costs(3, 1, 1), grid_of(8)),
                    contains("pp 8 × v 1 = 8 stages need at least 3.5 layers, the model has 3"));
  CHECK_THROWS_AS(partition_layers(equal_costs(3, 1, 1), grid_of(8)), UsageError);
  CHECK_THROWS_WITH(partition_layers(equal_costs(2, 1, 1), grid_of(3, 2)), contains("pp 3 × v 2 = 6 stages"));
  CHECK(partition_layers(equal_costs(4, 0, 9), grid_of(9)).back() == 0);
}

TEST_CASE("negative and non-finite costs are a defect") {
  CHECK_THROWS_AS(partition_layers(halves({1, -1}), grid_of(2)), DefectError);
  CHECK_THROWS_AS(partition_layers(halves({1, 1}, 0, std::numeric_limits<double>::quiet_NaN()), grid_of(2)),
                  DefectError);
}

TEST_CASE("a partition written by hand is checked") {
  CHECK(halves_of({3, 4.5, 0}) == std::vector<int>{6, 9, 0});
  const LayerCosts eight = equal_costs(8, 0, 1);
  CHECK_NOTHROW(validate_partition({6, 8, 2}, eight, grid_of(3)));
  CHECK_NOTHROW(validate_partition({7, 9, 0}, eight, grid_of(3)));
  const auto refuses = [&](const std::vector<int>& written, const LayerCosts& costs, const char* message) {
    CHECK_THROWS_WITH(validate_partition(written, costs, grid_of(3)), contains(message));
  };
  refuses({7, 9}, eight, "[3.5, 4.5]: 2 entries, expected pp 3 × v 1 = 3 stages");
  refuses({0, 8, 8}, eight, "stage 0 has 0 layers, expected at least 0.5");
  refuses({10, 8, -2}, eight, "stage 2 has -1 layers");
  refuses({6, 5, 6}, eight, "8.5 layers, but the model has 8");
  refuses({1, 1, 0}, halves({}), "need at least 1 layer, the model has 0");
  LayerCosts with_last = eight;
  with_last.fewest_on_last = 2;
  refuses({8, 7, 1}, with_last, "stage 2 has 0.5 layers, expected at least 1");
  LayerCosts few = equal_costs(1, 0, 1);
  few.fewest_on_last = 2;
  refuses({1, 1, 0}, few, "need at least 2 layers");
  LayerCosts apart = eight;
  apart.last_apart = true;
  CHECK_NOTHROW(validate_partition({7, 9, 0}, apart, grid_of(3)));
  refuses({7, 8, 1}, apart, "stage 2 has 0.5 layers, expected 0");
  LayerCosts separate = eight;
  separate.after = {{2}};
  CHECK_NOTHROW(validate_partition({16, 0, 0}, separate, grid_of(3)));
  refuses({8, 6, 2}, separate, "stage 2 has 1 layers, expected 0");
}

TEST_CASE("stages that hold only heads get no layers, and the trunk is assigned to the other stages") {
  LayerCosts apart = equal_costs(8, 0, 3);
  apart.last_apart = true;
  CHECK(partition_layers(apart, grid_of(3)) == std::vector<int>{8, 8, 0});
  apart.fewest_on_last = 2;
  CHECK(partition_layers(apart, grid_of(3)) == std::vector<int>{6, 8, 2});
  CHECK_THROWS_WITH(partition_layers(apart, grid_of(1)), contains("pp 1 × v 1 = 1 stage leave no stage"));

  LayerCosts separate = equal_costs(8, 0, 2);
  separate.after = {{3}, {3}};
  CHECK(partition_layers(separate, grid_of(4)) == std::vector<int>{10, 6, 0, 0});
  CHECK(stage_costs(separate, {10, 6, 0, 0}) == std::vector<StageDurations>{{5}, {5}, {3}, {3}});
  // If a stage after the trunk is the bottleneck, the layers are spread in even counts.
  separate.after = {{3}, {9}};
  CHECK(partition_layers(separate, grid_of(4)) == std::vector<int>{8, 8, 0, 0});
  CHECK_THROWS_WITH(partition_layers(separate, grid_of(2)),
                    contains("0 of them with layers, leave no stage"));
  CHECK_THROWS_WITH(partition_layers(separate, grid_of(20)),
                    contains("18 of them with layers, need at least 8.5 layers, the model has 8"));
}
