#include <string>

#include "parallel/pipeline/lower_program.h"
#include "parallel/pipeline/schedules.h"
#include "parallel/planning/simulate.h"
#include "runtime/error.h"
#include "tests/support/catch.h"

using namespace foretoken;
using foretoken::testing::contains;

namespace {

/// The same durations for every stage.
Durations uniform_durations(const PipelineShape& shape, const StageDurations& stage, double message = 0) {
  return {std::vector<StageDurations>(static_cast<std::size_t>(shape.stages()), stage), message};
}

struct Times {
  double forward, input, weight;  // times of a whole rank
};

SimulatedTimeline timeline_of(const std::string& name, const PipelineShape& shape, const Times& times,
                              double message = 0) {
  const Program lowered = lower_program(make_program(name, shape));
  const double v = shape.virtual_stages;
  return simulate(lowered, validate_program(lowered),
                  uniform_durations(shape, {times.forward / v, times.input / v, times.weight / v}, message));
}

/// Step time minus the work of one rank.
double bubble_time(const std::string& name, const PipelineShape& shape, const Times& times) {
  return timeline_of(name, shape, times).makespan() -
         shape.microbatches * (times.forward + times.input + times.weight);
}

const Times all_times[] = {{1, 1, 1}, {3, 4, 2}, {10, 12, 9}, {2, 2, 1}};

}  // namespace

TEST_CASE("GPipe and 1F1B idle (pp−1)(F+B) per step") {
  for (const Times& t : all_times)
    for (const int pp : {1, 2, 4, 8})
      for (const int microbatches : {1, 3, 8, 21}) {
        const double expected = (pp - 1) * (t.forward + t.input + t.weight);
        INFO("pp " << pp << " microbatches " << microbatches);
        CHECK(bubble_time("gpipe", {pp, 1, microbatches}, t) == Approx(expected).margin(1e-9));
        CHECK(bubble_time("1f1b", {pp, 1, microbatches}, t) == Approx(expected).margin(1e-9));
      }
}

TEST_CASE(
    "interleaving divides the bubble by the stages per rank, for any number of microbatches from pp on") {
  for (const Times& t : all_times)
    for (const int pp : {1, 2, 3, 4, 8})
      for (const int v : {2, 3, 4})
        for (int microbatches = pp; microbatches <= 3 * pp; ++microbatches) {
          INFO("pp " << pp << " v " << v << " microbatches " << microbatches);
          CHECK(bubble_time("interleaved_1f1b", {pp, v, microbatches}, t) ==
                Approx((pp - 1) * (t.forward + t.input + t.weight) / v).margin(1e-9));
        }
}

TEST_CASE(
    "zero bubble H1 idles (pp−1)(F+I−W) per step from pp microbatches on, and less than 1F1B for fewer") {
  for (const Times& t : all_times)
    for (const int pp : {2, 3, 4, 8}) {
      for (const int microbatches : {pp, pp + 1, 3 * pp + 2}) {
        INFO("pp " << pp << " microbatches " << microbatches);
        CHECK(bubble_time("zero_bubble_h1", {pp, 1, microbatches}, t) ==
              Approx((pp - 1) * (t.forward + t.input - t.weight)).margin(1e-9));
      }
      CHECK(bubble_time("zero_bubble_h1", {pp, 1, 1}, t) < bubble_time("1f1b", {pp, 1, 1}, t));
    }
}

TEST_CASE("an evaluation idles (pp−1)F/v") {
  for (const int v : {1, 2, 3})
    for (int microbatches = 4; microbatches <= 16; microbatches += v == 1 ? 1 : 4) {
      const Program lowered = lower_program(forward_only({4, v, microbatches}));
      const SimulatedTimeline timeline =
          simulate(lowered, validate_program(lowered), uniform_durations(lowered.shape, {1, 0, 0}));
      CHECK(timeline.makespan() == Approx(microbatches * v + 3));
    }
}

TEST_CASE("the bubble fraction is the idle share of all ranks") {
  const SimulatedTimeline timeline = timeline_of("1f1b", {4, 1, 12}, {1, 1, 1});
  CHECK(timeline.makespan() == Approx(45));
  CHECK(timeline.bubble() == Approx(9.0 / 45));
  for (int rank = 0; rank < 4; ++rank) CHECK(timeline.idle(rank) == Approx(9));
}

TEST_CASE("a message delays the action that waits for it") {
  // One microbatch crosses each boundary of three ranks twice.
  CHECK(timeline_of("1f1b", {3, 1, 1}, {1, 1, 1}, 0.25).makespan() == Approx(9 + 4 * 0.25));
  // Stages of one rank exchange no messages.
  CHECK(timeline_of("interleaved_1f1b", {1, 3, 4}, {1, 1, 1}, 100).makespan() == Approx(12));
}

TEST_CASE("messages are hidden by compute that is independent of them") {
  const PipelineShape shape{2, 1, 64};
  const double slow = timeline_of("gpipe", shape, {1, 1, 1}, 0.5).makespan();
  const double free = timeline_of("gpipe", shape, {1, 1, 1}, 0).makespan();
  CHECK(slow == Approx(free + 2 * 0.5));  // only the messages at the start and end of the step
}

TEST_CASE("the slowest stage determines the step time") {
  const Program lowered = lower_program(one_f_one_b({3, 1, 50}));
  Durations durations = uniform_durations(lowered.shape, {1, 1, 0});
  durations.stages[1] = {2, 2, 0};
  const SimulatedTimeline timeline = simulate(lowered, validate_program(lowered), durations);
  // It is idle while its first input and its last gradient pass through the first stage.
  CHECK(timeline.makespan() == Approx(50 * 4 + 2));
  CHECK(timeline.idle(1) == Approx(2));
}

TEST_CASE("a send buffer is overwritten only after the peer has posted the receive of its message") {
  // Rank 0 runs all eight forwards before it receives gradients; rank 1 has two slots and runs ahead.
  const Program lowered =
      lower_program(parse_program("0F0 0F1 0F2 0F3 0F4 0F5 0F6 0F7 0B0 0B1 0B2 0B3 0B4 0B5 0B6 0B7\n"
                                  "1F0 1B0 1F1 1B1 1F2 1B2 1F3 1B3 1F4 1B4 1F5 1B5 1F6 1B6 1F7 1B7\n"));
  const ProgramFootprint footprint = validate_program(lowered);
  CHECK(footprint.slots == std::vector<int>{8, 2});
  const SimulatedTimeline timeline =
      simulate(lowered, footprint, uniform_durations(lowered.shape, {1, 1, 0}));
  const Span& third_backward = timeline.ranks[1][5];
  CHECK(to_string(third_backward.action) == "1B2");
  CHECK(third_backward.start == Approx(7));  // the time when 0RB0 is posted, not 6, the end of 1F2
}

TEST_CASE("durations for a different number of stages are refused") {
  const Program lowered = lower_program(one_f_one_b({2, 1, 2}));
  CHECK_THROWS_AS(simulate(lowered, validate_program(lowered), uniform_durations({3, 1, 2}, {1, 1, 1})),
                  DefectError);
}

TEST_CASE("a timeline renders as one line per rank with idle time as dots") {
  CHECK(render(timeline_of("1f1b", {2, 1, 2}, {1, 1, 1}), 27) ==
        "rank 0 |F0 F1 ......B0    ...B1    | idle 33 %\n"
        "rank 1 |...F0 B0    F1 B1    ......| idle 33 %\n");
  CHECK_THAT(render(timeline_of("interleaved_1f1b", {2, 2, 2}, {2, 2, 2}), 60),
             contains("|0F0 0F1 2F0 2F1 "));
  // Too narrow for the label: only the letter is drawn.
  CHECK_THAT(render(timeline_of("1f1b", {2, 1, 2}, {1, 1, 1}), 18), contains("|F F ....B0  ..B1  |"));
}

TEST_CASE("1F1B, interleaved or not, waits for messages at a step's ends, not once per microbatch") {
  for (const auto& [name, v] : {std::pair{"1f1b", 1}, {"interleaved_1f1b", 2}, {"interleaved_1f1b", 3}})
    for (const int pp : {2, 3, 4, 8}) {
      const auto makespan = [&, name = name, v = v](double message) {
        return timeline_of(name, {pp, v, 16 * pp}, {10, 12, 9}, message).makespan();
      };
      INFO(name << ", pp " << pp << ", v " << v);
      CHECK(makespan(0.1) - makespan(0) < 0.1 * 4 * pp * v);
    }
}
