#include "parallel/optimizer/learning_rate.h"

#include <limits>

#include "runtime/error.h"
#include "tests/support/catch.h"

using namespace foretoken;

namespace {
using Shape = LearningRate::Shape;
}

TEST_CASE("every schedule warms up linearly and reaches its peak at the last warm-up step") {
  for (const Shape shape : {Shape::constant, Shape::cosine, Shape::wsd}) {
    const LearningRate schedule{.shape = shape,
                                .peak = 0.5,
                                .min_ratio = 0.1,
                                .warmup_steps = 10,
                                .decay_steps = 50,
                                .total_steps = 100};
    CHECK(learning_rate(schedule, 1) == Approx(0.05));
    CHECK(learning_rate(schedule, 5) == Approx(0.25));
    CHECK(learning_rate(schedule, 10) == 0.5);
  }
}

TEST_CASE("a constant rate stays at its peak") {
  const LearningRate schedule{.shape = Shape::constant, .peak = 0.5};
  CHECK(learning_rate(schedule, 1) == 0.5);
  CHECK(learning_rate(schedule, 1000000) == 0.5);
}

TEST_CASE("a cosine rate falls to its floor over the decay steps after warm-up, and stays there") {
  const LearningRate schedule{
      .shape = Shape::cosine, .peak = 1, .min_ratio = 0.2, .warmup_steps = 10, .decay_steps = 40};
  CHECK(learning_rate(schedule, 20) == Approx(0.2 + 0.8 * 0.5 * (1 + std::sqrt(0.5))));
  CHECK(learning_rate(schedule, 30) == Approx(0.6));
  CHECK(learning_rate(schedule, 50) == Approx(0.2));
  CHECK(learning_rate(schedule, 51) == Approx(0.2));
}

TEST_CASE("a warm-up-stable-decay rate falls linearly in the last steps") {
  const LearningRate schedule{.shape = Shape::wsd,
                              .peak = 1,
                              .min_ratio = 0.5,
                              .warmup_steps = 10,
                              .decay_steps = 20,
                              .total_steps = 100};
  CHECK(learning_rate(schedule, 11) == 1);
  CHECK(learning_rate(schedule, 80) == 1);
  CHECK(learning_rate(schedule, 81) == Approx(0.975));
  CHECK(learning_rate(schedule, 90) == Approx(0.75));
  CHECK(learning_rate(schedule, 100) == Approx(0.5));
  CHECK(learning_rate(schedule, 120) == Approx(0.5));
}

TEST_CASE("invalid schedules are refused") {
  CHECK_NOTHROW(validate(LearningRate{}));
  CHECK_NOTHROW(validate(LearningRate{.shape = Shape::constant, .decay_steps = 0}));
  CHECK_THROWS_AS(validate(LearningRate{.peak = 0}), UsageError);
  CHECK_THROWS_AS(validate(LearningRate{.peak = std::numeric_limits<double>::infinity()}), UsageError);
  CHECK_THROWS_AS(validate(LearningRate{.min_ratio = 1.5}), UsageError);
  CHECK_THROWS_AS(validate(LearningRate{.warmup_steps = -1}), UsageError);
  CHECK_THROWS_AS(validate(LearningRate{.shape = Shape::cosine, .decay_steps = 0}), UsageError);
  CHECK_THROWS_AS(
      validate(LearningRate{.shape = Shape::wsd, .warmup_steps = 60, .decay_steps = 50, .total_steps = 100}),
      UsageError);
}
