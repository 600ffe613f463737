#include "parallel/planning/step_time.h"

#include <string>
#include <vector>

#include "parallel/pipeline/lower_program.h"
#include "parallel/pipeline/schedules.h"
#include "runtime/error.h"
#include "runtime/random.h"
#include "tests/support/catch.h"

using namespace foretoken;

namespace {

/// Two ranks, two microbatches, F = 1, I = W = 1. If messages are free:
///   rank 0 |F0 F1 ......B0    ...B1    | 9 s
///   rank 1 |...F0 B0    F1 B1    ......|
StepCosts two_stages() {
  return {.stages = {{1, 1, 1}, {1, 1, 1}}};
}

StepSimulation simulation_of(const std::string& schedule, const PipelineShape& shape) {
  const Program lowered = lower_program(make_program(schedule, shape));
  return {lowered, validate_program(lowered)};
}

StepTime predict_1f1b(const StepCosts& costs, const Links& links) {
  return simulation_of("1f1b", {2, 1, 2}).predict(costs, links);
}

Links ten_bytes_per_second() {
  return {.inside = {.latency = 0, .bandwidth = 10}};
}

StepCosts random_costs(const PipelineShape& shape, int dp, std::uint64_t seed) {
  const CounterRng rng(seed, "step");
  std::uint64_t number = 0;
  const auto draw = [&] { return 0.5 + rng.uniform(++number); };
  StepCosts costs{.dp = dp, .sharded_optimizer = seed % 2 == 0};
  for (int stage = 0; stage < shape.stages(); ++stage) {
    costs.stages.push_back({draw(), draw(), draw()});
    if (stage > 0) costs.boundary_bytes.push_back(draw());
  }
  for (int rank = 0; rank < shape.pp; ++rank) {
    RankCosts& own = costs.ranks.emplace_back(RankCosts{.norm = 0.1 * draw()});
    for (int stage = rank; stage < shape.stages(); stage += shape.pp)
      for (const double final_after : {0.5, 1.0})
        own.buckets.push_back({.stage = stage,
                               .final_after = final_after,
                               .gradient_bytes = draw(),
                               .weight_bytes = draw(),
                               .update = 0.1 * draw()});
  }
  if (shape.pp > 1)
    for (const int rank : {0, shape.pp - 1})
      costs.ranks[static_cast<std::size_t>(rank)].buckets.push_back({.stage = rank,
                                                                     .gradient_bytes = 2,
                                                                     .weight_bytes = 1,
                                                                     .update = 0.1,
                                                                     .holders = {0, shape.pp - 1}});
  return costs;
}

struct Case {
  const char* schedule;
  PipelineShape shape;
};
const Case cases[] = {{"gpipe", {1, 1, 3}},
                      {"1f1b", {2, 1, 5}},
                      {"1f1b", {4, 1, 8}},
                      {"interleaved_1f1b", {2, 2, 4}},
                      {"interleaved_1f1b", {4, 3, 9}},
                      {"zero_bubble_h1", {3, 1, 7}},
                      {"gpipe", {3, 2, 4}},
                      {"zero_bubble_h1", {8, 1, 12}}};

}  // namespace

TEST_CASE("a step whose messages are free takes the simulated time of its program, to the bit") {
  for (const Case& c : cases) {
    StepCosts costs = random_costs(c.shape, 1, 7);
    costs.ranks.clear();
    const Program lowered = lower_program(make_program(c.schedule, c.shape));
    const ProgramFootprint footprint = validate_program(lowered);
    const SimulatedTimeline expected = simulate(lowered, footprint, {.stages = costs.stages});
    const StepSimulation simulation(lowered, footprint);
    INFO(c.schedule << ", " << to_string(c.shape));
    CHECK(simulation.seconds(costs, {}) == expected.makespan());
    const SimulatedTimeline timeline = simulation.timeline(costs, {});
    for (std::size_t rank = 0; rank < timeline.ranks.size(); ++rank)
      for (std::size_t i = 0; i < timeline.ranks[rank].size(); ++i) {
        CHECK(timeline.ranks[rank][i].action == expected.ranks[rank][i].action);
        CHECK(timeline.ranks[rank][i].start == expected.ranks[rank][i].start);
        CHECK(timeline.ranks[rank][i].end == expected.ranks[rank][i].end);
      }
  }
}

TEST_CASE("a message takes its latency and its bytes at the link's bandwidth") {
  StepCosts costs = two_stages();
  costs.boundary_bytes = {10};
  // Half a second each. Rank 1: F0 2–3, B0 3–5, F1 5–6, B1 6–8. Rank 0: B0 6–8, B1 9–11.
  const Links links{.inside = {.latency = 0.5, .bandwidth = 20}};
  const StepTime step = predict_1f1b(costs, links);
  CHECK(step.total == Approx(11));
  CHECK(step.step.compute == Approx(6));
  CHECK(step.step.bubble == Approx(3));
  CHECK(step.step.exposed_messages == Approx(2));
  // The same ranks on two nodes.
  const Links nodes{.inside = {}, .between = links.inside, .per_node = 1};
  CHECK(predict_1f1b(costs, nodes).total == Approx(11));
}

TEST_CASE("a zero-bubble step waits for a message where 1F1B does") {
  StepCosts costs = two_stages();
  costs.boundary_bytes = {10};
  // Rank 1: F0 2–3, I0 3–4, F1 and its halves follow without a gap.
  const StepSimulation simulation = simulation_of("zero_bubble_h1", {2, 1, 2});
  const SimulatedTimeline free = simulation.timeline(costs, {});
  const SimulatedTimeline slow = simulation.timeline(costs, ten_bytes_per_second());
  CHECK(free.ranks[1].front().start == Approx(1));
  CHECK(slow.ranks[1].front().start == Approx(2));
  CHECK(slow.makespan() == Approx(free.makespan() + 2));
}

TEST_CASE("a reduction that ends before the pipeline is hidden, a longer one is exposed") {
  StepCosts costs = two_stages();
  costs.dp = 2;
  costs.ranks.resize(2);
  // Final at 7 s. An all-reduce of two ranks sends the bytes once: 2 s, until the pipeline ends.
  costs.ranks[1].buckets = {{.stage = 1, .gradient_bytes = 20}};
  const Links links = ten_bytes_per_second();
  const double norm = 1.2;  // s, of the all-reduce of 8 bytes over four ranks
  CHECK(predict_1f1b(costs, links).total == Approx(9 + norm));
  CHECK(predict_1f1b(costs, links).step.exposed_reductions == Approx(0).margin(1e-12));
  costs.ranks[1].buckets[0].gradient_bytes = 30;
  CHECK(predict_1f1b(costs, links).total == Approx(10 + norm));
  CHECK(predict_1f1b(costs, links).step.exposed_reductions == Approx(1));
  // A bucket of rank 0 that is final in the middle of the last backward, 7–9 s.
  costs.ranks[1].buckets.clear();
  costs.ranks[0].buckets = {{.stage = 0, .final_after = 0.5, .gradient_bytes = 20}};
  CHECK(predict_1f1b(costs, links).step.exposed_reductions == Approx(1));
}

TEST_CASE("a message and a reduction that run at the same time share the rank's link") {
  StepCosts costs = two_stages();
  costs.dp = 2;
  costs.boundary_bytes = {10};
  costs.ranks.resize(2);
  costs.ranks[1].buckets = {{.stage = 1, .gradient_bytes = 20}};
  // Rank 1 ends at 8. Its last gradient and its reduction have 5 bytes/s each: the gradient arrives at 10,
  // not at 9, and the reduction ends at 11. Rank 0 ends at 12.
  const StepTime step = predict_1f1b(costs, ten_bytes_per_second());
  CHECK(step.total == Approx(12 + 1.2));
  CHECK(step.step.exposed_messages == Approx(2));
  CHECK(step.step.exposed_reductions == Approx(1));
}

TEST_CASE("a sharded optimizer gathers a bucket while it updates the next one") {
  StepCosts costs{.stages = {{1, 1, 1}}, .dp = 2, .sharded_optimizer = true, .host = 0.25};
  const BucketCosts first{.stage = 0, .gradient_bytes = 20, .weight_bytes = 20, .update = 1};
  BucketCosts second = first;
  second.final_after = 0.5;
  costs.ranks = {{.buckets = {first, second}, .norm = 0.5}};
  // Reduce-scatters: second 2–3, first 3–4. Norm until 4.5, its all-reduce until 5.3. Updates until 6.3 and
  // 7.3, gathers until 7.3 and 8.3.
  const StepTime step = simulation_of("1f1b", {1, 1, 1}).predict(costs, ten_bytes_per_second());
  CHECK(step.total == Approx(8.3 + 0.25));
  CHECK(step.step.optimizer == Approx(2.5));
  CHECK(step.step.exposed_reductions == Approx(1));
  CHECK(step.step.exposed_gathers == Approx(0.8 + 1));
  CHECK(step.step.bubble == Approx(0).margin(1e-12));
}

TEST_CASE("a shared bucket is summed over its holders when all of them have reduced it") {
  StepCosts costs = two_stages();
  const BucketCosts shared{.gradient_bytes = 20, .holders = {0, 1}};
  costs.ranks = {{.buckets = {shared}}, {.buckets = {shared}}};
  costs.ranks[1].buckets[0].stage = 1;
  // Without data parallelism: final at 7 on rank 1 and at 9 on rank 0.
  CHECK(predict_1f1b(costs, ten_bytes_per_second()).total == Approx(9 + 2 + 0.8));
  // Sharded over two replicas: rank 0 reduce-scatters until 10 and exchanges half of the bytes until 11.
  costs.dp = 2;
  costs.sharded_optimizer = true;
  const StepTime step = predict_1f1b(costs, ten_bytes_per_second());
  CHECK(step.step.exposed_reductions == Approx(2));
}

TEST_CASE(
    "without background communication a rank receives between its actions, and reduces and gathers last") {
  StepCosts costs = two_stages();
  costs.boundary_bytes = {10};
  // A second each. Rank 1: receives until 2, F0 2–3, B0 3–5, receives until 6, F1 6–7, B1 7–9. Rank 0:
  // receives 5–6, B0 6–8, receives 9–10, B1 10–12.
  const Links links{.inside = {.latency = 0.5, .bandwidth = 20}, .in_background = false};
  CHECK(predict_1f1b(costs, links).total == Approx(12));
  CHECK(predict_1f1b(costs, links).step.exposed_messages == Approx(3));

  StepCosts sharded{.stages = {{1, 1, 1}}, .dp = 2, .sharded_optimizer = true};
  const BucketCosts bucket{
      .stage = 0, .final_after = 0.5, .gradient_bytes = 20, .weight_bytes = 20, .update = 1};
  sharded.ranks = {{.buckets = {bucket, bucket}, .norm = 0.5}};
  Links slow = ten_bytes_per_second();
  slow.in_background = false;
  // Reduce-scatters 3–5, norm until 5.5, its all-reduce until 6.3, updates until 8.3, gathers until 10.3.
  const StepTime step = simulation_of("1f1b", {1, 1, 1}).predict(sharded, slow);
  CHECK(step.total == Approx(10.3));
  CHECK(step.step.exposed_reductions == Approx(2));
}

TEST_CASE("the parts of every rank's step add up to its time, and none of them is negative") {
  for (const Case& c : cases)
    for (const int dp : {1, 4})
      for (const int per_node : {2, 3, 8}) {
        const StepCosts costs = random_costs(c.shape, dp, static_cast<std::uint64_t>(dp + per_node));
        const Links links{.inside = {0.01, 5},
                          .between = {0.05, 1},
                          .per_node = per_node,
                          .adapters = 2,
                          .in_background = per_node != 3};
        const StepTime step = simulation_of(c.schedule, c.shape).predict(costs, links);
        INFO(c.schedule << ", " << to_string(c.shape) << ", dp " << dp << ", per node " << per_node);
        CHECK(step.total == Approx(simulation_of(c.schedule, c.shape).seconds(costs, links)));
        CHECK(step.step.total() == Approx(step.total));
        for (const StepShares& rank : step.ranks) {
          CHECK(rank.total() == Approx(step.total));
          for (const double part : {rank.bubble, rank.exposed_messages, rank.exposed_reductions,
                                    rank.exposed_gathers, rank.optimizer})
            CHECK(part >= -1e-9);
        }
      }
}

TEST_CASE("a slower network never shortens a step") {
  for (const Case& c : cases)
    for (const int per_node : {2, 8}) {
      const StepCosts costs = random_costs(c.shape, 4, static_cast<std::uint64_t>(per_node));
      const StepSimulation simulation = simulation_of(c.schedule, c.shape);
      double last = 0;
      for (double slower = 1; slower < 200; slower *= 1.5) {
        const Links links{.inside = {0.001 * slower, 50 / slower},
                          .between = {0.005 * slower, 10 / slower},
                          .per_node = per_node};
        const double seconds = simulation.seconds(costs, links);
        INFO(c.schedule << ", " << to_string(c.shape) << ", per node " << per_node << ", " << slower);
        CHECK(seconds >= last * (1 - 1e-12));
        last = seconds;
      }
    }
}

TEST_CASE("a step of many microbatches is predicted from shorter ones within 1 %") {
  for (const Case& c : cases)
    for (const int microbatches : {40, 61, 128}) {
      PipelineShape shape = c.shape;
      shape.microbatches = microbatches;
      const StepCosts costs = random_costs(shape, 2, 3);
      for (const double slower : {0.0, 1.0, 20.0}) {
        const Links links{.inside = {0.001 * slower, slower > 0 ? 50 / slower : Link{}.bandwidth}};
        INFO(c.schedule << ", " << to_string(shape) << ", slower " << slower);
        CHECK(SchedulePrediction(c.schedule, shape).seconds(costs, links) ==
              Approx(simulation_of(c.schedule, shape).seconds(costs, links)).epsilon(0.01));
      }
    }
}

TEST_CASE("costs of other stages, boundaries or ranks are refused") {
  StepCosts costs = two_stages();
  costs.boundary_bytes = {1, 1};
  CHECK_THROWS_AS(predict_1f1b(costs, {}), DefectError);
  costs.boundary_bytes = {1};
  costs.ranks.resize(3);
  CHECK_THROWS_AS(predict_1f1b(costs, {}), DefectError);
  costs.ranks.clear();
  costs.stages.pop_back();
  CHECK_THROWS_AS(predict_1f1b(costs, {}), DefectError);
}
