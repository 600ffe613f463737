#include "parallel/planning/step_bound.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "parallel/pipeline/schedules.h"
#include "parallel/planning/step_time.h"
#include "runtime/random.h"
#include "tests/support/catch.h"

using namespace foretoken;

namespace {

/// Seven layers and two depths; with `apart`, each depth has a stage of its own.
LayerCosts random_costs(std::uint64_t seed, bool apart) {
  const CounterRng rng(seed, "bound");
  std::uint64_t number = 0;
  const auto draw = [&] { return 0.2 + rng.uniform(++number); };
  LayerCosts costs{.first = {0, 0, 0.1 * draw()}, .last = {0, 2 * draw(), 0}};
  for (int half = 0; half < 14; ++half) costs.halves.push_back({draw(), draw(), draw()});
  if (apart) costs.after = {{0, draw(), draw()}, {draw(), draw(), 0}};
  return costs;
}

/// A random partition within the limits.
std::vector<int> random_partition(const LayerCosts& costs, int stages, std::uint64_t seed) {
  const CounterRng rng(seed, "partition of the bound");
  std::vector<int> halves;
  int left = static_cast<int>(costs.halves.size());
  for (int stage = 0; stage < stages; ++stage) {
    halves.push_back(range_of_halves(costs, stage, stages).least);
    left -= halves.back();
  }
  for (std::uint64_t number = 0; left > 0;) {
    const int stage = static_cast<int>(rng.uniform(++number) * stages);
    if (range_of_halves(costs, stage, stages).most <= halves[static_cast<std::size_t>(stage)]) continue;
    ++halves[static_cast<std::size_t>(stage)];
    --left;
  }
  return halves;
}

struct Case {
  const char* schedule;
  PipelineShape shape;
};
const Case cases[] = {{"gpipe", {1, 1, 3}},
                      {"gpipe", {3, 2, 5}},
                      {"1f1b", {1, 1, 4}},
                      {"1f1b", {3, 1, 2}},
                      {"1f1b", {4, 1, 9}},
                      {"1f1b", {8, 1, 16}},
                      {"interleaved_1f1b", {2, 2, 4}},
                      {"interleaved_1f1b", {4, 2, 6}},
                      {"interleaved_1f1b", {3, 3, 9}},
                      {"zero_bubble_h1", {4, 1, 7}},
                      {"zero_bubble_h1", {1, 1, 2}},
                      {"zero_bubble_h1", {6, 1, 24}}};

}  // namespace

TEST_CASE("no partition of the layers makes a program shorter than its bound") {
  std::uint64_t seed = 0;
  for (Case c : cases)
    for (const bool apart : {false, true}) {
      if (apart && c.shape.stages() < 3) continue;
      const SchedulePrediction prediction(c.schedule, c.shape);
      for (int trial = 0; trial < 40; ++trial) {
        const LayerCosts costs = random_costs(++seed, apart);
        const double message = trial % 2 == 0 ? 0 : 0.3;
        const double bound = least_program_time(costs, {c.shape, splits_backward(c.schedule), message});
        StepCosts step{.stages = stage_costs(costs, random_partition(costs, c.shape.stages(), seed)),
                       .boundary_bytes = {}};
        if (message > 0) step.boundary_bytes.assign(step.stages.size() - 1, 1);
        INFO(c.schedule << ", " << to_string(c.shape) << ", message " << message << ", apart " << apart);
        CHECK(bound <= prediction.seconds(step, {.inside = {.latency = message}}) * (1 + 1e-9));
        CHECK(bound > 0);
      }
    }
}

TEST_CASE("the bound of one half layer per stage is the program's time if all stages are equal") {
  LayerCosts costs;
  costs.halves.assign(4, {1, 1, 1});
  costs.fewest_on_last = 1;
  // 1F1B: (M + pp − 1) · 3. Zero bubble: 3 M + (pp − 1)(F + I − W).
  CHECK(least_program_time(costs, {{4, 1, 8}, false, 0}) == Approx(33));
  CHECK(least_program_time(costs, {{4, 1, 8}, true, 0}) == Approx(27));
  // A message of half a second in each direction between neighbours.
  CHECK(least_program_time(costs, {{4, 1, 8}, false, 0.5}) == Approx(36));
}
