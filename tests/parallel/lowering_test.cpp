#include <string>

#include "parallel/pipeline/lower_program.h"
#include "parallel/pipeline/schedules.h"
#include "parallel/pipeline/validate_program.h"
#include "runtime/error.h"
#include "tests/support/catch.h"

using namespace foretoken;
using foretoken::testing::contains;

namespace {

std::string validation_error(const std::string& text) {
  try {
    validate_program(parse_program(text));
  } catch (const UsageError& error) {
    return error.what();
  }
  return "valid";
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

const std::string two_ranks =
    "0F0 0SF0 0RB0 0F1 0SF1 0B0 0RB1 0F2 0SF2 0RB2 0B1 0B2\n"
    "1RF0 1F0 1RF1 1B0 1SB0 1F1 1RF2 1B1 1SB1 1F2 1B2 1SB2\n";

std::string broken(const std::string& from, const std::string& to) {
  return validation_error(replaced(two_ranks, from, to));
}

}  // namespace

TEST_CASE(
    "a send follows its action, and a receive is posted one compute action before the one that waits for "
    "it") {
  CHECK(to_string(lower_program(one_f_one_b({2, 1, 3}))) ==
        "0F0 0SF0 0F1 0SF1 0RB0 0F2 0SF2 0RB1 0B0 0RB2 0B1 0B2\n"
        "1RF0 1F0 1RF1 1B0 1SB0 1F1 1RF2 1B1 1SB1 1F2 1B2 1SB2\n");
  CHECK(to_string(lower_program(zero_bubble_h1({2, 1, 2}))) ==
        "0F0 0SF0 0RB0 0F1 0SF1 0I0 0RB1 0W0 0I1 0W1\n"
        "1RF0 1F0 1RF1 1I0 1SB0 1F1 1I1 1SB1 1W0 1W1\n");
}

TEST_CASE("stages on one rank exchange no messages") {
  const Program program = interleaved_1f1b({1, 3, 4});
  CHECK(lower_program(program) == program);
}

TEST_CASE("receives are posted in the order of the sends, even if they are used in another order") {
  const Program lowered =
      lower_program(parse_program("0F0 0F1 0F2 0B0 0B1 0B2\n"
                                  "1F2 1F0 1F1 1B0 1B1 1B2\n"));
  CHECK(to_string(lowered).substr(to_string(lowered).find('\n') + 1) ==
        "1RF0 1RF1 1RF2 1F2 1F0 1F1 1B0 1SB0 1B1 1SB1 1B2 1SB2\n");
  CHECK(validate_program(lowered).slots == std::vector<int>{3, 3});
}

TEST_CASE("lowering refuses messages in its input, and inputs that no action produces") {
  CHECK_THROWS_WITH(lower_program(parse_program(two_ranks)), contains("0SF0") && contains("lowering"));
  CHECK_THROWS_AS(lower_program(parse_program("0F0 0B0\n1F0 1B0 1F1 1B1\n")), UsageError);
  CHECK_THROWS_WITH(lower_program(parse_program("0F0 0B0\n1F0 1B0 1F1 1B1\n")),
                    contains("1RF1") && contains("no action produces 0SF1"));
}

TEST_CASE("validation accepts the program that the other cases modify") {
  CHECK(validation_error(two_ranks) == "valid");
}

TEST_CASE("validation names an action that is missing, repeated or misplaced") {
  CHECK_THAT(broken("0F2 0SF2 0RB2 0B1 0B2", "0B1"), contains("rank 0 lacks 0F2"));
  CHECK_THAT(broken("1F2 1B2 1SB2", "1F2"), contains("rank 1 lacks 1I2"));
  CHECK_THAT(broken("1B2", "1I2"), contains("rank 1 lacks 1W2"));
  CHECK_THAT(validation_error("0F0 0F1 0F3"), contains("rank 0 lacks 0F2"));
  CHECK_THAT(broken("0F1", "0F1 0F1"), contains("rank 0, action 4 (0F1): repeats action 3"));
  CHECK_THAT(broken("1B1", "1B1 1W1"), contains("(1W1): the program also contains the whole backward 1B1"));
  CHECK_THAT(broken("1F0 1RF1 1B0", "1B0 1RF1 1F0"),
             contains("rank 1, action 1 (1B0): comes before rank 1, action 3 (1F0)"));
  CHECK_THAT(broken("1B2 1SB2", "1W2 1I2 1SB2"), contains("(1W2): comes before"));
  CHECK_THAT(validation_error("0F0 0B0 0F999999"), contains("rank 0 lacks 0F1"));
  CHECK_THAT(validation_error("0F0 999999F999999"), contains("rank 0 lacks"));

  Program program = lower_program(one_f_one_b({2, 1, 2}));
  program.ranks[1].push_back({ActionKind::forward, 0, 0});
  CHECK_THROWS_WITH(validate_program(program), contains("stage 0 belongs to rank 0"));
  program.ranks[1].back() = {ActionKind::forward, 1, 2};
  CHECK_THROWS_WITH(validate_program(program),
                    contains("(1F2): out of range for pp 2 × v 1, 2 microbatches"));
  program.ranks.pop_back();
  CHECK_THROWS_WITH(validate_program(program), contains("actions for 1 rank"));
}

TEST_CASE("validation requires both ends of every message, and a consumer for it") {
  CHECK_THAT(broken(" 0SF1", ""), contains("(1RF1): waits for 0SF1, which the program does not contain"));
  CHECK_THAT(broken(" 1RF1", ""), contains("(1F1): waits for 1RF1, which the program does not contain"));
  CHECK_THAT(broken(" 1SB0", ""), contains("(0RB0): waits for 1SB0, which the program does not contain"));
  CHECK_THAT(broken("0F0 0SF0", "0SF0 0F0"), contains("rank 0, action 0 (0SF0): comes before"));
  CHECK_THAT(broken("0RB0 0F1 0SF1 0B0", "0F1 0SF1 0B0 0RB0"), contains("(0B0): comes before"));
  CHECK_THAT(broken("1RF0", "1RF0 1RB0"), contains("rank 1, action 1 (1RB0): no action needs this message"));
  CHECK_THAT(broken("1F0", "1F0 1SF0"), contains("(1SF0): no action needs this message"));
  CHECK_THAT(validation_error("0F0 1F0 1B0 1SB0 0B0"), contains("(1SB0): no action needs this message"));
}

TEST_CASE("validation requires receives in the order of the sends on each channel") {
  CHECK_THAT(broken("1RF0 1F0 1RF1", "1RF1 1RF0 1F0"),
             contains("rank 1, action 1 (1RF0): this receive is posted after rank 0, action 4 (0SF1)"));
}

TEST_CASE("ranks that wait for each other are a deadlock error that shows each rank's position") {
  // Each rank runs one microbatch completely before the other: rank 0 starts with microbatch 0, rank 1 with
  // microbatch 1.
  const Program crossed =
      lower_program(parse_program("0F0 0B0 0F1 0B1\n"
                                  "1F1 1B1 1F0 1B0\n"));
  try {
    validate_program(crossed);
    FAIL("valid");
  } catch (const UsageError& error) {
    CHECK_THAT(error.what(), contains("deadlock") && contains("(0B0) waits for rank 1, action") &&
                                 contains("(1F1) waits for rank 0, action"));
  }
}

TEST_CASE("1F1B holds pp − rank + 1 microbatches, and one more slot if a receive is posted ahead") {
  const ProgramFootprint footprint = validate_program(lower_program(one_f_one_b({4, 1, 12})));
  CHECK(footprint.in_flight == std::vector<int>{5, 4, 3, 1});
  CHECK(footprint.slots == std::vector<int>{5, 5, 4, 2});
}

TEST_CASE("GPipe holds all microbatches, zero bubble H1 pp on every rank") {
  CHECK(validate_program(lower_program(gpipe({2, 1, 9}))).slots == std::vector<int>{9, 9});
  const ProgramFootprint footprint = validate_program(lower_program(zero_bubble_h1({4, 1, 12})));
  CHECK(footprint.in_flight == std::vector<int>{4, 4, 4, 4});
  CHECK(footprint.slots == std::vector<int>{4, 5, 5, 5});
}

TEST_CASE("interleaved 1F1B's memory does not grow with the microbatches") {
  const ProgramFootprint few = validate_program(lower_program(interleaved_1f1b({4, 2, 16})));
  const ProgramFootprint many = validate_program(lower_program(interleaved_1f1b({4, 2, 64})));
  CHECK(few.slots == many.slots);
  CHECK(few.in_flight == many.in_flight);
}

TEST_CASE("an evaluation holds only the current microbatch and the one being received") {
  const ProgramFootprint footprint = validate_program(lower_program(forward_only({4, 1, 12})));
  CHECK(footprint.in_flight == std::vector<int>{0, 0, 0, 0});
  CHECK(footprint.slots == std::vector<int>{1, 2, 2, 2});
}
