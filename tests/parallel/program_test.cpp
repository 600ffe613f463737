#include "parallel/pipeline/program.h"

#include <string>

#include "parallel/pipeline/lower_program.h"
#include "parallel/pipeline/prerequisites.h"
#include "parallel/pipeline/schedules.h"
#include "runtime/error.h"
#include "tests/support/catch.h"

using namespace foretoken;
using foretoken::testing::contains;

TEST_CASE("actions print as stage, letters and microbatch") {
  CHECK(to_string(Action{ActionKind::forward, 2, 0}) == "2F0");
  CHECK(to_string(Action{ActionKind::backward, 12, 34}) == "12B34");
  CHECK(to_string(Action{ActionKind::backward_input, 0, 1}) == "0I1");
  CHECK(to_string(Action{ActionKind::backward_weight, 0, 1}) == "0W1");
  CHECK(to_string(Action{ActionKind::send_activation, 2, 0}) == "2SF0");
  CHECK(to_string(Action{ActionKind::receive_activation, 2, 0}) == "2RF0");
  CHECK(to_string(Action{ActionKind::send_gradient, 2, 0}) == "2SB0");
  CHECK(to_string(Action{ActionKind::receive_gradient, 2, 0}) == "2RB0");
}

TEST_CASE("every schedule prints and parses to itself, lowered or not") {
  for (const std::string& name : schedule_names())
    for (const int pp : {1, 2, 4})
      for (const int microbatches : {1, 5, 12}) {
        const int v = name == "interleaved_1f1b" ? 3 : 1;
        const Program program = make_program(name, {pp, v, microbatches});
        CHECK(parse_program(to_string(program)) == program);
        const Program lowered = lower_program(program);
        CHECK(parse_program(to_string(lowered)) == lowered);
      }
}

TEST_CASE(
    "parsing derives the shape from the number of lines, the highest stage and the highest microbatch") {
  const Program program = parse_program("0F0 2F0\n1F0  3B7\n");
  CHECK(program.shape == PipelineShape{2, 2, 8});
  REQUIRE(program.ranks.size() == 2);
  CHECK(program.ranks[1] == std::vector<Action>{{ActionKind::forward, 1, 0}, {ActionKind::backward, 3, 7}});
  CHECK(parse_program("0F0\n\n").ranks.size() == 2);
}

TEST_CASE("text that is not an action is an error with line and column") {
  const auto parse_error = [](const std::string& text) -> std::string {
    try {
      parse_program(text);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "parsed";
  };
  CHECK_THAT(parse_error(""), contains("empty"));
  CHECK_THAT(parse_error("0F0\n1F0 1X0"), contains("line 2, column 5: \"1X0\""));
  CHECK_THAT(parse_error("0F0 F1"), contains("column 5: \"F1\""));
  CHECK_THAT(parse_error("0F"), contains("\"0F\""));
  CHECK_THAT(parse_error("0F0x"), contains("\"0F0x\""));
  CHECK_THAT(parse_error("0F-1"), contains("\"0F-1\""));
  CHECK_THAT(parse_error("-1F0"), contains("\"-1F0\""));
  CHECK_THAT(parse_error("0f0"), contains("\"0f0\""));
  CHECK_THAT(parse_error("0F1000000"), contains("up to 999999"));
  CHECK_THAT(parse_error("0F99999999999999999999"), contains("up to 999999"));
  CHECK_THAT(parse_error("0F0\n0F1"),
             contains("line 2, column 1: 0F1: stage 0 belongs to rank 0 of 2, not on 1"));
}

TEST_CASE("an action waits for a stage on another rank by message, and for one on its own rank directly") {
  using enum ActionKind;
  const PipelineShape ring{2, 2, 1};
  CHECK(prerequisites({forward, 0, 0}, ring).empty());
  CHECK(prerequisites({forward, 2, 0}, ring) == std::vector<Action>{{receive_activation, 2, 0}});
  CHECK(prerequisites({receive_activation, 2, 0}, ring) == std::vector<Action>{{send_activation, 1, 0}});
  CHECK(prerequisites({backward, 3, 0}, ring) == std::vector<Action>{{forward, 3, 0}});
  CHECK(prerequisites({backward_input, 1, 0}, ring) ==
        std::vector<Action>{{forward, 1, 0}, {receive_gradient, 1, 0}});

  const PipelineShape alone{1, 2, 1};
  CHECK(prerequisites({forward, 1, 0}, alone) == std::vector<Action>{{forward, 0, 0}});
  CHECK(prerequisites({backward, 0, 0}, alone) ==
        std::vector<Action>{{forward, 0, 0}, {backward_input, 1, 0}});

  CHECK(fulfils({backward, 1, 0}, {backward_input, 1, 0}));
  CHECK(fulfils({backward, 1, 0}, {backward_weight, 1, 0}));
  CHECK_FALSE(fulfils({backward_input, 1, 0}, {backward_weight, 1, 0}));
  CHECK_FALSE(fulfils({backward, 1, 0}, {backward_input, 1, 1}));
  CHECK_FALSE(fulfils({backward_input, 1, 0}, {backward, 1, 0}));
}
