// The traced step of a report: what its messages took, and which ranks are drawn.
#include "launch/report/traced_step.h"

#include "launch/session/session.h"
#include "parallel/pipeline/schedules.h"
#include "tests/support/catch.h"

using namespace foretoken;
using foretoken::testing::contains;

namespace {

using Indices = std::vector<std::size_t>;

TimelineSpan action(const char* name, double begin, double end) {
  return {.lane = "compute", .name = name, .begin = begin, .end = end};
}

/// 1F1B of two microbatches on two ranks. Rank 1 waits 0.25 s for its first activation and is late for the
/// second; rank 0 waits 0.5 s for the first gradient and 0.75 s for the second.
std::vector<TracedRank> two_ranks() {
  return {
      {0, {action("0F0", 0, 1), action("0F1", 1, 2), action("0B0", 3.75, 5), action("0B1", 7, 8)}},
      {1,
       {action("1F0", 1.25, 2.25), action("1B0", 2.25, 3.25), action("1F1", 4, 5), action("1B1", 5, 6.25)}}};
}

Program two_stages() {
  return make_ready(make_program("1f1b", {.pp = 2, .virtual_stages = 1, .microbatches = 2})).program;
}

/// Ranks that computed for these seconds.
std::vector<TracedRank> ranks_that_computed(const std::vector<double>& seconds) {
  std::vector<TracedRank> ranks;
  for (const double time : seconds)
    ranks.push_back({static_cast<int>(ranks.size()), {action("0F0", 0, time)}});
  return ranks;
}

}  // namespace

TEST_CASE("the time of messages is the median over the actions that waited for one") {
  const MessageTimes one_node = message_times(two_ranks(), two_stages(), {.pp = 2}, {});
  CHECK(one_node.inside == Approx(0.5));
  CHECK(!one_node.between);
  const MessageTimes two_nodes = message_times(two_ranks(), two_stages(), {.pp = 2}, {.per_node = 1});
  CHECK(!two_nodes.inside);
  CHECK(two_nodes.between == Approx(0.5));
}

TEST_CASE("an action that was late for its message does not count as waiting") {
  std::vector<TracedRank> trace = two_ranks();
  trace[0].spans[2] = action("0B0", 2, 5);  // no gradient can have arrived before its end
  for (TimelineSpan& span : trace[0].spans)
    if (span.name == "0F1") span.end = 3.25;
  trace[0].spans[3] = action("0B1", 100, 101);
  trace[1].spans[3] = action("1B1", 4.5, 4.75);
  CHECK(message_times(trace, two_stages(), {.pp = 2}, {}).inside == Approx(0.25));
}

TEST_CASE("a step of one rank has no messages") {
  const Program program =
      make_ready(make_program("1f1b", {.pp = 1, .virtual_stages = 1, .microbatches = 1})).program;
  const std::vector<TracedRank> trace{{0, {action("0F0", 0, 1), action("0B0", 1, 2)}}};
  const MessageTimes times = message_times(trace, program, {}, {});
  CHECK(!times.inside);
  CHECK(!times.between);
}

TEST_CASE("a timeline of many ranks has whole pipelines with the slowest ranks, and names them") {
  const std::vector<TracedRank> trace = ranks_that_computed({1, 1, 2, 1, 1, 3, 1, 1});
  CHECK(drawn_ranks(trace, 2, 8).ranks == Indices{0, 1, 2, 3, 4, 5, 6, 7});
  CHECK(drawn_ranks(trace, 2, 8).notes.empty());
  const DrawnRanks some = drawn_ranks(trace, 2, 5);
  CHECK(some.ranks == Indices{2, 3, 4, 5});
  REQUIRE(some.notes.size() == 2);
  CHECK(some.notes[0] == "4 of 8 ranks are drawn:");
  CHECK(some.notes[1] == "the 2 of 4 pipelines whose slowest rank computed longest");
  CHECK(drawn_ranks(trace, 1, 2).ranks == Indices{2, 5});
}

TEST_CASE("a pipeline with more ranks than a timeline has rows is drawn at even spaces, with both ends") {
  CHECK(spaced_ranks(64, 3) == Indices{0, 31, 63});
  const std::vector<TracedRank> trace = ranks_that_computed({1, 1, 1, 1, 1, 1, 1, 2});
  CHECK(drawn_ranks(trace, 4, 3).ranks == Indices{4, 5, 7});
  CHECK_THAT(drawn_ranks(trace, 4, 3).notes.at(1), contains("evenly spaced"));
}
