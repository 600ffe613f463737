#include "launch/plan/step_programs.h"

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "launch/config/layout.h"
#include "parallel/pipeline/schedules.h"
#include "tests/support/catch.h"

using namespace foretoken;

namespace {

SessionPlan session_of(const std::string& schedule, const PipelineShape& shape) {
  Config config;
  config.parallel.schedule = schedule;
  config.train.microbatch = 1;
  config.train.global_batch = shape.microbatches;
  return {.config = config, .layout = {.grid = {shape.pp, 1, shape.virtual_stages}}};
}

bool needs_no_more(const std::vector<int>& a, const std::vector<int>& b) {
  return a.empty() || std::equal(a.begin(), a.end(), b.begin(), b.end(), std::less_equal<>());
}

}  // namespace

TEST_CASE("the slots found from short programs are those of the whole step, and never become fewer") {
  StepPrograms programs;
  for (const std::string& schedule : schedule_names())
    for (const int pp : {1, 2, 3, 4, 5, 8})
      for (const int v : {1, 2, 3, 4}) {
        if (schedule == "interleaved_1f1b" ? v == 1 : schedule != "gpipe" && v > 1) continue;
        for (const int microbatches : {1, pp, 2 * pp + 1, 3 * pp, 8 * pp, 9 * pp - 1, 12 * pp, 40 * pp}) {
          const PipelineShape shape{pp, v, microbatches};
          INFO(schedule << ", " << to_string(shape));
          SessionPlan session = session_of(schedule, shape);
          std::vector<int> training, evaluation;
          bool grows = true;
          CHECK(programs.visit(session, [&] {
            grows &= needs_no_more(training, session.training.footprint.slots) &&
                     needs_no_more(evaluation, session.evaluation.footprint.slots);
            training = session.training.footprint.slots;
            evaluation = session.evaluation.footprint.slots;
            return true;
          }));
          CHECK(grows);
          CHECK(session.training.footprint.slots ==
                make_ready(make_program(schedule, shape)).footprint.slots);
          CHECK(session.evaluation.footprint.slots == make_ready(forward_only(shape)).footprint.slots);
          CHECK(has_split_backward(session.training.program) == splits_backward(schedule));
        }
      }
}

TEST_CASE("programs of more microbatches are not built once a layout does not fit") {
  StepPrograms programs;
  SessionPlan session = session_of("gpipe", {4, 1, 64});
  int calls = 0;
  CHECK(!programs.visit(session, [&] { return ++calls < 2; }));
  CHECK(calls == 2);
  CHECK(session.training.footprint.slots == std::vector<int>(4, 32));
}
