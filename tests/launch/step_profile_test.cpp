// Shares of a step: compute, bubble, exposed communication.
#include "launch/training/step_profile.h"

#include "tests/support/catch.h"

using namespace foretoken;

namespace {

/// A step of 10 s of two pipeline ranks: rank 0 computes 1 to 3 and 5 to 8, rank 1 computes 3 to 6 of the
/// same clock. Reductions wait until 8.5, the optimizer takes 1 s, and the ranks exchange their sums at 10.
std::vector<RankTimes> two_ranks() {
  const std::vector<TimelineSpan> first{{.name = "0F0", .begin = 1, .end = 3},
                                        {.name = "0B0", .begin = 5, .end = 8},
                                        {.name = "adamw", .begin = 8.5, .end = 9.5}};
  // This rank's step, and so its timeline, started 0.5 s later.
  const std::vector<TimelineSpan> second{
      {.name = "1F0", .begin = 2.5, .end = 4},
      {.name = "1B0", .begin = 4, .end = 5.5},
      {.kind = TimelineSpan::Kind::communication, .name = "send 8.4 MB", .begin = 5.5, .end = 7},
      {.name = "adamw", .begin = 8, .end = 9}};
  return {rank_times(first, 0.5, 10, 10, 1000), rank_times(second, 0, 9.5, 9.5, 3000)};
}

}  // namespace

TEST_CASE("a bubble is the time in no action between the first and the last action of any rank") {
  const StepTimes times = step_times(two_ranks());
  const double length = 10 + 9.5;
  CHECK(times.compute == Approx((5 + 3) / length));
  CHECK(times.bubble == Approx((7 - 5 + 7 - 3) / length));
  CHECK(times.optimizer == Approx(2 / length));
  CHECK(times.data == Approx(0.5 / length));
}

TEST_CASE("no time of a step counts twice if a rank begins its step in the pass of another") {
  // Rank 1 ends the step before late: its step has 6 s, of which it waits 1 s for rows; its norm runs before
  // the other rank's last action ends.
  std::vector<RankTimes> ranks = two_ranks();
  const std::vector<TimelineSpan> late{{.name = "0F0", .begin = 1, .end = 2},
                                       {.name = "0B0", .begin = 2, .end = 3},
                                       {.name = "gradient norm", .begin = 3, .end = 5.75}};
  ranks[1] = rank_times(late, 1, 6, 6, 0);
  const StepTimes times = step_times(ranks);
  const double rest = 0.5;  // of rank 0: from its rows to its first action
  CHECK(times.compute + times.bubble + times.exposed_communication + times.optimizer + times.data ==
        Approx(1 - rest / (10 + 6)));
  CHECK(times.bubble == Approx((2 + (3 - 2 - 0.75)) / 16));
}

TEST_CASE("communication is exposed only after the last action of the last rank, without the optimizer") {
  CHECK(step_times(two_ranks()).exposed_communication == Approx(2 * (10 - 8 - 1) / 19.5));
  const std::vector<RankTimes> ranks = two_ranks();
  CHECK(step_times(std::span(ranks).first(1)).exposed_communication == 0);
}

TEST_CASE("the slowest rank is the one that computed longest") {
  const StepTimes times = step_times(two_ranks());
  CHECK(times.slowest_rank == 0);
  CHECK(times.compute_seconds == std::vector<double>{6, 4});
  CHECK(times.slowest_excess == Approx(0.5));  // of two ranks, relative to the other
  CHECK(times.memory_bytes == std::vector<std::int64_t>{1000, 3000});
  std::vector<RankTimes> three = two_ranks();
  three.push_back(three[1]);
  CHECK(step_times(three).slowest_excess == Approx(0.5));
}
