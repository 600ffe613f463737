#include "runtime/operators/vocabulary/argmax.h"

#include <limits>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/numeric.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

std::vector<std::int32_t> argmax_of(std::vector<float> x, std::int64_t rows, std::int64_t count,
                                    std::int64_t candidates = 1) {
  std::vector<std::int32_t> out(static_cast<std::size_t>(rows * candidates), 99);
  TestStream stream(2);
  argmax(stream, {.x = tensor_over(std::span(x), {rows, static_cast<std::int64_t>(x.size()) / rows}),
                  .count = count,
                  .out = tensor_over(std::span(out), {rows, candidates})});
  return out;
}

}  // namespace

TEST_CASE("argmax takes the lowest of the largest, of the columns that take part") {
  CHECK(argmax_of({1, 3, 3, 2, -5, -4, -4, 7}, 2, 4) == std::vector<std::int32_t>{1, 3});
  CHECK(argmax_of({1, 3, 3, 2, -5, -4, -4, 7}, 2, 3) == std::vector<std::int32_t>{1, 1});
  CHECK(argmax_of({1, 3, 3, 2, -5, -4, -4, 7}, 2, 1) == std::vector<std::int32_t>{0, 0});
}

TEST_CASE("argmax gives the likeliest in their order, the lowest of equals first") {
  constexpr float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(argmax_of({1, 3, 3, 2, -5, -4, -4, 7}, 2, 4, 3) == std::vector<std::int32_t>{1, 2, 3, 3, 1, 2});
  CHECK(argmax_of({-inf, 2, -inf, 2, nan, 1, 2, 3}, 2, 4, 4) ==
        std::vector<std::int32_t>{1, 3, 0, 2, -1, -1, -1, -1});
}

TEST_CASE("argmax says where logits are not finite") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  CHECK(argmax_of({1, nan, 2, 0, inf, 1, -inf, -inf, -inf, -inf, 3, 1}, 4, 3) ==
        std::vector<std::int32_t>{-1, -1, -1, 1});
  CHECK(argmax_of({1, 2, nan}, 1, 2) == std::vector<std::int32_t>{1});
}

TEST_CASE("argmax refuses more columns than there are") {
  expect_error<DefectError>("5 columns of x [2, 4], out [2, 1]",
                            [] { argmax_of(std::vector<float>(8), 2, 5); });
  expect_error<DefectError>("2 columns of x [2, 4], out [2, 3]",
                            [] { argmax_of(std::vector<float>(8), 2, 2, 3); });
}
