#include "parallel/planning/partition_for_step.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "parallel/pipeline/lower_program.h"
#include "parallel/pipeline/schedules.h"
#include "parallel/pipeline/validate_program.h"
#include "parallel/planning/simulate.h"
#include "runtime/error.h"
#include "runtime/random.h"
#include "tests/support/catch.h"

using namespace foretoken;
using foretoken::testing::contains;

namespace {

StageDurations of_forward(double forward) {
  return {forward, forward, forward};
}

/// Costs of layers whose attention takes 0.42 of the forward, and of heads that run in backward.
LayerCosts decoder(int layers, double heads) {
  LayerCosts costs{.halves = {}, .first = {}, .last = {0, 3 * heads, 0}};
  for (int half = 0; half < 2 * layers; ++half) costs.halves.push_back(of_forward(half % 2 ? 0.58 : 0.42));
  return costs;
}

double step_of(const LayerCosts& costs, const std::string& schedule, const PipelineShape& shape,
               const std::vector<int>& halves) {
  const Program lowered = lower_program(make_program(schedule, shape));
  return simulate(lowered, validate_program(lowered), {.stages = stage_costs(costs, halves)}).makespan();
}

Grid grid_of(const PipelineShape& shape) {
  return {.pp = shape.pp, .virtual_stages = shape.virtual_stages};
}

int cuts_inside(const std::vector<int>& halves) {
  int cuts = 0, end = 0;
  for (const int count : halves) cuts += (end += count) % 2;
  return cuts;
}

/// Calls body with every partition of the halves. The last stage may have no half, every other stage has at
/// least one.
void every_partition(int halves, int stages, const std::function<void(const std::vector<int>&)>& body) {
  std::vector<int> ends(static_cast<std::size_t>(stages) - 1);
  const std::function<void(std::size_t, int)> next = [&](std::size_t stage, int begin) {
    if (stage < ends.size()) {
      for (ends[stage] = begin + 1; ends[stage] <= halves; ++ends[stage]) next(stage + 1, ends[stage]);
      return;
    }
    std::vector<int> counts;
    for (int previous = 0; const int end : ends) counts.push_back(end - std::exchange(previous, end));
    counts.push_back(halves - begin);
    body(counts);
  };
  next(0, 0);
}

}  // namespace

TEST_CASE("layers are assigned such that the simulated step is the shortest of all, within a thousandth") {
  const CounterRng rng(3, "partition for step");
  std::uint64_t number = 0;
  for (const auto& [schedule, shape] :
       std::initializer_list<std::pair<const char*, PipelineShape>>{{"1f1b", {2, 1, 5}},
                                                                    {"1f1b", {3, 1, 8}},
                                                                    {"1f1b", {4, 1, 3}},
                                                                    {"gpipe", {2, 2, 4}},
                                                                    {"zero_bubble_h1", {3, 1, 6}},
                                                                    {"interleaved_1f1b", {2, 2, 6}}})
    for (int trial = 0; trial < 6; ++trial) {
      LayerCosts costs = decoder(4, 3 * rng.uniform(++number));
      for (StageDurations& half : costs.halves) half = of_forward(0.2 + rng.uniform(++number));
      const std::vector<int> halves = partition_for_step(costs, schedule, shape);
      INFO(schedule << " " << to_string(shape) << " trial " << trial);
      CHECK_NOTHROW(validate_partition(halves, costs, grid_of(shape)));
      double shortest = std::numeric_limits<double>::infinity();
      every_partition(8, shape.stages(), [&](const std::vector<int>& other) {
        shortest = std::min(shortest, step_of(costs, schedule, shape, other));
      });
      const double allowed = shortest * 1.001;
      CHECK(step_of(costs, schedule, shape, halves) <= allowed * (1 + 1e-9));
      every_partition(8, shape.stages(), [&](const std::vector<int>& other) {
        if (step_of(costs, schedule, shape, other) <= allowed)
          CHECK(cuts_inside(other) >= cuts_inside(halves));
      });
    }
}

TEST_CASE(
    "the last of two 1F1B stages is lighter by the time that it waits while the pipeline fills and drains") {
  // There are two cases. In one, the last stage waits only for the first forward, and the step ends with the
  // first stage's last backward. In the other, the first stage runs three forwards before the first gradient
  // arrives and does not wait again.
  const auto closed_form = [](const std::vector<StageDurations>& stages, int m) {
    const double first = stages[0].total(), last = stages[1].total();
    return std::max(first + m * last, m * first + std::max(0.0, last - 2 * stages[0].forward));
  };
  for (const int m : {3, 4, 8, 16, 64, 256})
    for (const double heads : {0.0, 1.5, 3.1}) {
      const LayerCosts costs = decoder(24, heads);
      const std::vector<int> halves = partition_for_step(costs, "1f1b", {2, 1, m});
      INFO("microbatches " << m << " heads " << heads << " halves " << halves[0]);
      double least = std::numeric_limits<double>::infinity();
      every_partition(48, 2, [&](const std::vector<int>& other) {
        least = std::min(least, closed_form(stage_costs(costs, other), m));
      });
      CHECK(closed_form(stage_costs(costs, halves), m) <= 1.001 * least);
      CHECK(step_of(costs, "1f1b", {2, 1, m}, halves) == Approx(closed_form(stage_costs(costs, halves), m)));
    }
}

TEST_CASE("no step is more than a thousandth longer than with the partition of the smallest bottleneck") {
  for (const int pp : {1, 2, 3, 8})
    for (const int v : {1, 2})
      for (const int m : {1, 3, 16}) {
        const PipelineShape shape{pp, v, m};
        const LayerCosts costs = decoder(12, 3.1);
        for (const std::string& schedule : schedule_names()) {
          if (schedule != "gpipe" && (schedule == "interleaved_1f1b") != (v > 1)) continue;
          INFO(schedule << " " << to_string(shape));
          const std::vector<int> halves = partition_for_step(costs, schedule, shape);
          CHECK_NOTHROW(validate_partition(halves, costs, grid_of(shape)));
          CHECK(step_of(costs, schedule, shape, halves) <=
                1.001 * step_of(costs, schedule, shape, partition_layers(costs, grid_of(shape))));
        }
      }
}

TEST_CASE("the random search finds as good a partition as trying all of them") {
  struct Case {
    int layers;
    double heads;
    PipelineShape shape;
    double shortest;  // step time of the best partition, by exhaustive search
  };
  for (const Case& c : {Case{16, 3.1, {4, 2, 16}, 265.14}, Case{16, 1.5, {4, 2, 8}, 122.36},
                        Case{16, 3.1, {2, 4, 16}, 466.92}, Case{18, 2.0, {4, 2, 32}, 501.0}}) {
    const LayerCosts costs = decoder(c.layers, c.heads);
    const std::vector<int> halves = partition_for_step(costs, "interleaved_1f1b", c.shape);
    INFO(to_string(c.shape));
    CHECK(step_of(costs, "interleaved_1f1b", c.shape, halves) <= 1.001 * c.shortest);
  }
}

TEST_CASE("a partition for 4096 microbatches and 32 stages balances the ranks to three percent") {
  const LayerCosts costs = decoder(64, 3.1);
  const PipelineShape shape{8, 4, 4096};
  const std::vector<int> halves = partition_for_step(costs, "interleaved_1f1b", shape);
  CHECK(halves == partition_for_step(costs, "interleaved_1f1b", shape));
  const std::vector<StageDurations> stages = stage_costs(costs, halves);
  std::vector<double> ranks(8);
  for (std::size_t stage = 0; stage < stages.size(); ++stage) ranks[stage % 8] += stages[stage].total();
  // The costs add up to 201.3. With this number of microbatches the time to fill the pipeline is negligible,
  // so the busiest rank determines the step time.
  CHECK(*std::max_element(ranks.begin(), ranks.end()) < 1.03 * 201.3 / 8);
}

TEST_CASE("a search over many stages with few partitions ends") {
  // 46 stages and 48 halves have 1,081 partitions, but 10¹³ beginnings that no partition has.
  const LayerCosts costs = decoder(24, 1.0);
  const PipelineShape shape{2, 23, 2};
  const std::vector<int> halves = partition_for_step(costs, "gpipe", shape);
  CHECK_NOTHROW(validate_partition(halves, costs, grid_of(shape)));
}

TEST_CASE("a layer is cut only if that shortens the step by more than a thousandth") {
  const PipelineShape shape{2, 1, 64};
  CHECK(partition_for_step(decoder(12, 0.001), "1f1b", shape) == std::vector<int>{12, 12});
  CHECK(partition_for_step(decoder(12, 0.58), "1f1b", shape) == std::vector<int>{13, 11});
}

TEST_CASE("stages that hold only heads get no other layers, for any step time") {
  const PipelineShape shape{2, 2, 8};
  LayerCosts apart = decoder(8, 3);
  apart.last_apart = true;
  CHECK(partition_for_step(apart, "interleaved_1f1b", shape).back() == 0);
  apart.fewest_on_last = 2;
  CHECK(partition_for_step(apart, "interleaved_1f1b", shape).back() == 2);
  LayerCosts separate = decoder(8, 1);
  separate.after = {of_forward(2)};
  const std::vector<int> halves = partition_for_step(separate, "interleaved_1f1b", shape);
  CHECK(halves.back() == 0);
  CHECK_NOTHROW(validate_partition(halves, separate, grid_of(shape)));
  CHECK_THROWS_WITH(partition_for_step(decoder(1, 1), "1f1b", {4, 1, 2}),
                    contains("need at least 1.5 layers, the model has 1"));
  CHECK_THROWS_AS(partition_for_step(decoder(4, 1), "1f1b", {2, 2, 2}), UsageError);
}
