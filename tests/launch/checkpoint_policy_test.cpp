// The decision to save, stage or stop, from the ranks' votes.
#include "launch/training/checkpoint_policy.h"

#include "tests/support/catch.h"

using namespace foretoken;
using std::chrono::seconds;

namespace {

const CheckpointRules rules{.every_steps = 5, .every = seconds(60), .last_step = 20, .stop_after = 13};
constexpr StepDecision nothing{}, save{.save = true}, stop{.stop = true, .save = true}, stage{.stage = true};

}  // namespace

TEST_CASE(
    "a run saves at multiples of every_steps and at its end, and stops only at its end or at stop_after") {
  CHECK(decide(rules, 4, {.ranks = 3}) == nothing);
  CHECK(decide(rules, 5, {.ranks = 3}) == save);
  CHECK(decide(rules, 13, {.ranks = 3}) == stop);
  CHECK(decide(rules, 20, {.ranks = 3}) == save);
  CHECK_FALSE(has_reached_stop_after(rules, 12));
  CHECK(has_reached_stop_after(rules, 13));
  CHECK(has_reached_stop_after(rules, 14));  // a resumed run may start past stop_after
  CHECK_FALSE(has_reached_stop_after({.last_step = 20}, 20));
}

TEST_CASE("a signal to one rank stops all ranks, except after the last step") {
  CHECK(decide(rules, 4, {.ranks = 3, .signalled = 1}) == stop);
  CHECK(decide(rules, 20, {.ranks = 3, .signalled = 3}) == save);
}

TEST_CASE("a save by time or a copy is made only if every rank is ready for it") {
  CHECK(decide(rules, 4, {.ranks = 3, .save_ready = 2}) == nothing);
  CHECK(decide(rules, 4, {.ranks = 3, .save_ready = 3}) == save);
  CHECK(decide(rules, 4, {.ranks = 3, .stage_ready = 2}) == nothing);
  CHECK(decide(rules, 4, {.ranks = 3, .stage_ready = 3}) == stage);
  CHECK(decide(rules, 4, {.ranks = 3, .save_ready = 3, .stage_ready = 3}) == save);
}

TEST_CASE("a rank is ready for a save by time once the interval has passed and no save is being written") {
  const CheckpointClock::Clock::time_point start{};
  CheckpointClock clock(rules, start);
  CHECK_FALSE(clock.save_ready(start + seconds(59), false));
  CHECK(clock.save_ready(start + seconds(60), false));
  CHECK_FALSE(clock.save_ready(start + seconds(60), true));
  clock.saved(start + seconds(70));
  CHECK_FALSE(clock.save_ready(start + seconds(129), false));
  CHECK(clock.save_ready(start + seconds(130), false));
  CHECK_FALSE(CheckpointClock({.every_steps = 5}, start).save_ready(start + seconds(100000), false));
}

TEST_CASE("copies take at most a hundredth of the time, and short steps are not copied") {
  const CheckpointClock::Clock::time_point start{};
  CheckpointClock clock(rules, start);
  CHECK(clock.stage_ready(start, false, 3));
  CHECK_FALSE(clock.stage_ready(start, true, 3));
  CHECK_FALSE(clock.stage_ready(start, false, 0.01));
  clock.staged(start, start + seconds(1));
  CHECK_FALSE(clock.stage_ready(start + seconds(100), false, 3));
  CHECK(clock.stage_ready(start + seconds(101), false, 3));
}
