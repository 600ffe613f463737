#include "parallel/pipeline/schedules.h"

#include <algorithm>
#include <string>

#include "parallel/pipeline/lower_program.h"
#include "parallel/pipeline/validate_program.h"
#include "runtime/error.h"
#include "tests/support/catch.h"

using namespace foretoken;
using foretoken::testing::contains;

namespace {

std::string usage_error(const std::string& name, const PipelineShape& shape) {
  try {
    make_program(name, shape);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "made";
}

}  // namespace

// On all ranks but the last, the expected 1F1B has one more microbatch in flight than the paper's figure. It
// hides messages.
TEST_CASE("the schedules of three ranks and four microbatches equal their papers' figures") {
  CHECK(to_string(gpipe({3, 1, 4})) ==
        "0F0 0F1 0F2 0F3 0B0 0B1 0B2 0B3\n"
        "1F0 1F1 1F2 1F3 1B0 1B1 1B2 1B3\n"
        "2F0 2F1 2F2 2F3 2B0 2B1 2B2 2B3\n");
  CHECK(to_string(one_f_one_b({3, 1, 4})) ==
        "0F0 0F1 0F2 0F3 0B0 0B1 0B2 0B3\n"
        "1F0 1F1 1F2 1B0 1F3 1B1 1B2 1B3\n"
        "2F0 2B0 2F1 2B1 2F2 2B2 2F3 2B3\n");
  CHECK(to_string(zero_bubble_h1({3, 1, 4})) ==
        "0F0 0F1 0F2 0I0 0W0 0F3 0I1 0W1 0I2 0W2 0I3 0W3\n"
        "1F0 1F1 1I0 1F2 1I1 1W0 1F3 1I2 1W1 1I3 1W2 1W3\n"
        "2F0 2I0 2F1 2I1 2F2 2I2 2W0 2F3 2I3 2W1 2W2 2W3\n");
}

TEST_CASE("interleaved 1F1B of two ranks, two stages each and four microbatches equals Megatron's") {
  CHECK(to_string(interleaved_1f1b({2, 2, 4})) ==
        "0F0 0F1 2F0 2F1 0F2 2B0 0F3 2B1 2F2 0B0 2F3 0B1 2B2 2B3 0B2 0B3\n"
        "1F0 1F1 3F0 3B0 3F1 3B1 1F2 1B0 1F3 1B1 3F2 3B2 3F3 3B3 1B2 1B3\n");
}

TEST_CASE("every schedule is valid for any ranks, stages per rank and microbatches") {
  for (const std::string& name : schedule_names())
    for (int pp = 1; pp <= 8; ++pp)
      for (int v = 1; v <= 4; ++v) {
        if (name == "interleaved_1f1b" ? v == 1 : name != "gpipe" && v > 1) continue;
        for (int microbatches = 1; microbatches <= 3 * pp + 2; ++microbatches) {
          INFO(name << " pp " << pp << " v " << v << " microbatches " << microbatches);
          CHECK_NOTHROW(validate_program(lower_program(make_program(name, {pp, v, microbatches}))));
        }
      }
}

TEST_CASE("an evaluation is valid for any ranks, stages per rank and microbatches") {
  for (int pp = 1; pp <= 5; ++pp)
    for (int v = 1; v <= 3; ++v)
      for (int microbatches = 1; microbatches <= 2 * pp + 1; ++microbatches) {
        INFO("pp " << pp << " v " << v << " microbatches " << microbatches);
        CHECK_NOTHROW(validate_program(lower_program(forward_only({pp, v, microbatches}))));
      }
  CHECK(to_string(forward_only({2, 2, 3})) ==
        "0F0 0F1 0F2 2F0 2F1 2F2\n"
        "1F0 1F1 1F2 3F0 3F1 3F2\n");
}

TEST_CASE("a schedule splits backward if and only if its programs do") {
  for (const std::string& name : schedule_names()) {
    const Program program = make_program(name, {2, name == "interleaved_1f1b" ? 2 : 1, 3});
    CHECK(splits_backward(name) == has_split_backward(program));
  }
}

TEST_CASE("a stage runs its backwards in the order of the microbatches") {
  for (const std::string& name : schedule_names()) {
    const int v = name == "interleaved_1f1b" ? 3 : 1;
    const Program program = make_program(name, {4, v, 11});
    for (int stage = 0; stage < program.shape.stages(); ++stage) {
      std::vector<int> order;
      for (const Action& action : program.ranks[static_cast<std::size_t>(program.shape.rank_of(stage))])
        if (action.stage == stage &&
            (action.kind == ActionKind::backward || action.kind == ActionKind::backward_weight))
          order.push_back(action.microbatch);
      INFO(name << " stage " << stage);
      CHECK(order.size() == 11);
      CHECK(std::is_sorted(order.begin(), order.end()));
    }
  }
}

TEST_CASE("an unknown schedule or an impossible combination is a usage error that lists the alternatives") {
  CHECK_THAT(usage_error("dualpipe", {2, 1, 4}),
             contains("dualpipe") && contains("gpipe, 1f1b, interleaved_1f1b, zero_bubble_h1"));
  CHECK_THAT(usage_error("1f1b", {2, 2, 4}), contains("v is 2") && contains("interleaved_1f1b"));
  CHECK_THAT(usage_error("zero_bubble_h1", {2, 3, 4}), contains("v is 3"));
  CHECK_THAT(usage_error("interleaved_1f1b", {2, 1, 4}), contains("v is 1") && contains("use 1f1b for one"));
  CHECK_THAT(usage_error("gpipe", {0, 1, 4}), contains("at least 1"));
  CHECK_THAT(usage_error("1f1b", {2, 1, 0}), contains("pp 2 × v 1, 0 microbatches"));
  CHECK_THAT(usage_error("gpipe", {4096, 8, 1'000'000'000}), contains("actions, expected at most"));
}
