#include "parallel/partition.h"

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

LayerCosts equal_costs(int layers, double first, double last) {
  return {std::vector<double>(static_cast<std::size_t>(layers), 1.0), first, last};
}

double dearest(const LayerCosts& costs, const std::vector<int>& blocks) {
  const std::vector<double> stages = stage_costs(costs, blocks);
  return *std::max_element(stages.begin(), stages.end());
}

/// The least dearest stage of all partitions, by trying all.
double brute_force(const LayerCosts& costs, std::vector<int>& blocks, int stages, int left) {
  if (static_cast<int>(blocks.size()) == stages - 1) {
    blocks.push_back(left);
    const double value = dearest(costs, blocks);
    blocks.pop_back();
    return value;
  }
  double best = std::numeric_limits<double>::infinity();
  for (int count = 1; count <= left; ++count) {
    blocks.push_back(count);
    best = std::min(best, brute_force(costs, blocks, stages, left - count));
    blocks.pop_back();
  }
  return best;
}

}  // namespace

TEST_CASE("equal layers without fixed costs are dealt evenly, fewer to earlier stages") {
  CHECK(partition_layers(equal_costs(8, 0, 0), grid_of(4)) == std::vector<int>{2, 2, 2, 2});
  CHECK(partition_layers(equal_costs(10, 0, 0), grid_of(4)) == std::vector<int>{2, 2, 3, 3});
  CHECK(partition_layers(equal_costs(10, 0, 0), grid_of(2, 2)) == std::vector<int>{2, 2, 3, 3});
  CHECK(partition_layers(equal_costs(5, 0, 0), grid_of(1)) == std::vector<int>{5});
  CHECK(partition_layers({std::vector<double>(9, 0.1), 0, 0}, grid_of(3)) == std::vector<int>{3, 3, 3});
}

TEST_CASE("the embedding unburdens the first stage, the head and its MTP modules the last") {
  CHECK(partition_layers(equal_costs(12, 0, 4), grid_of(4)) == std::vector<int>{4, 4, 4, 0});
  CHECK(partition_layers(equal_costs(12, 0, 2), grid_of(4)) == std::vector<int>{3, 3, 4, 2});
  CHECK(partition_layers(equal_costs(10, 1, 1), grid_of(3)) == std::vector<int>{3, 4, 3});
  CHECK(partition_layers(equal_costs(3, 0, 100), grid_of(4)) == std::vector<int>{1, 1, 1, 0});
  LayerCosts with_last = equal_costs(12, 0, 4);
  with_last.fewest_on_last = 1;
  CHECK(partition_layers(with_last, grid_of(4)) == std::vector<int>{3, 4, 4, 1});
}

TEST_CASE("a partition's dearest stage is the least of all partitions'") {
  const CounterRng rng(7, "partition");
  for (std::uint64_t trial = 0; trial < 60; ++trial) {
    const int layers = 3 + static_cast<int>(rng.u64(3 * trial) % 7);
    const int stages = 1 + static_cast<int>(rng.u64(3 * trial + 1) % 4);
    LayerCosts costs{{}, 2 * rng.uniform(1000 + trial), 4 * rng.uniform(2000 + trial)};
    for (int i = 0; i < layers; ++i)
      costs.blocks.push_back(rng.uniform(10'000 + 100 * trial + static_cast<std::uint64_t>(i)));
    const std::vector<int> blocks = partition_layers(costs, grid_of(stages));
    std::vector<int> tried;
    INFO("trial " << trial << " layers " << layers << " stages " << stages);
    CHECK_NOTHROW(validate_partition(blocks, layers, grid_of(stages)));
    CHECK(dearest(costs, blocks) == Approx(brute_force(costs, tried, stages, layers)).epsilon(1e-8));
  }
}

TEST_CASE("stage costs hold the fixed costs of the ends") {
  CHECK(stage_costs({{1, 2, 3}, 10, 20}, {1, 2, 0}) == std::vector<double>{11, 5, 20});
  CHECK(stage_costs({{1, 2, 3}, 10, 20}, {3}) == std::vector<double>{36});
}

TEST_CASE("too few layers are a usage error with the figures") {
  CHECK_THROWS_WITH(partition_layers(equal_costs(4, 1, 1), grid_of(8)),
                    contains("pp 8 × v 1 = 8 stages need at least 7 layers, the model has 4"));
  CHECK_THROWS_AS(partition_layers(equal_costs(4, 1, 1), grid_of(8)), UsageError);
  CHECK_THROWS_WITH(partition_layers(equal_costs(4, 1, 1), grid_of(3, 2)), contains("pp 3 × v 2 = 6 stages"));
  CHECK(partition_layers(equal_costs(7, 0, 9), grid_of(8)).back() == 0);
}

TEST_CASE("costs that are no costs are a defect") {
  CHECK_THROWS_AS(partition_layers({{1, -1}, 0, 0}, grid_of(2)), DefectError);
  CHECK_THROWS_AS(partition_layers({{1, 1}, 0, std::numeric_limits<double>::quiet_NaN()}, grid_of(2)),
                  DefectError);
}

TEST_CASE("a partition written by hand is checked") {
  CHECK_NOTHROW(validate_partition({3, 4, 1}, 8, grid_of(3)));
  CHECK_NOTHROW(validate_partition({4, 4, 0}, 8, grid_of(3)));
  CHECK_THROWS_WITH(validate_partition({4, 4}, 8, grid_of(3)),
                    contains("[4, 4]: 2 entries, expected pp 3 × v 1 = 3 stages"));
  CHECK_THROWS_WITH(validate_partition({0, 4, 4}, 8, grid_of(3)), contains("stage 0 has 0 blocks"));
  CHECK_THROWS_WITH(validate_partition({5, 4, -1}, 8, grid_of(3)), contains("stage 2 has -1 blocks"));
  CHECK_THROWS_WITH(validate_partition({3, 3, 3}, 8, grid_of(3)), contains("9 blocks, but the model has 8"));
  CHECK_THROWS_AS(validate_partition({1, 1, 1}, 1, grid_of(3)), UsageError);
  CHECK_THROWS_WITH(validate_partition({4, 4, 0}, 8, grid_of(3), 1),
                    contains("stage 2 has 0 blocks, expected at least 1"));
  CHECK_THROWS_WITH(validate_partition({1, 1, 0}, 2, grid_of(3), 1), contains("need at least 3 layers"));
}
