// Training steps with FP8 products, emulated on the CPU.

#include <cmath>

#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/models/fp8_step.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

Fp8StepResult step_of(const Fp8StepOptions& options) {
  TestStream stream(2);
  return fp8_step(stream, options);
}

}  // namespace

// Rounding both operands of a product changes its result by about 4 %; about thirty products contribute to a
// gradient.
TEST_CASE("gradients in fp8 differ from those in f32 by no more than the rounding of operands") {
  const Fp8Recipe recipe = GENERATE(Fp8Recipe::tensor, Fp8Recipe::block);
  CAPTURE(static_cast<int>(recipe));
  const Fp8StepResult exact = step_of({}), rounded = step_of({.fp8 = Fp8Config{.recipe = recipe}});
  CHECK(std::abs(rounded.loss - exact.loss) < 1e-2 * exact.loss);
  const double error = gradient_error(rounded, exact);
  CHECK(error > 0.05);  // the products did run in FP8
  CHECK(error < 0.35);
}

TEST_CASE("a step in fp8 has the same bits for every way to recompute, split and measure") {
  const Fp8Recipe recipe = GENERATE(Fp8Recipe::tensor, Fp8Recipe::block);
  const bool repeat = GENERATE(false, true);
  CAPTURE(static_cast<int>(recipe), repeat);
  const Fp8StepOptions plain{.fp8 = Fp8Config{.recipe = recipe},
                             .mtp = {.depths = 2, .repeat = repeat, .diagnose_every = 1}};
  const Fp8StepResult expected = step_of(plain);
  const auto check = [&](const Fp8StepOptions& options) {
    const Fp8StepResult result = step_of(options);
    CHECK(result.loss == expected.loss);
    CHECK(result.gradients == expected.gradients);
  };
  Fp8StepOptions full = plain, split = plain, diagnosed = plain;
  full.recompute = Recompute::full;
  split.split_backward = true;
  diagnosed.diagnose = true;
  check(full);
  check(split);
  check(diagnosed);
}

TEST_CASE("layers that are not in fp8, and evaluations, compute the bits of f32") {
  const MtpConfig no_heads{.depths = 0};
  const Fp8StepResult exact = step_of({.mtp = no_heads});
  const auto step = [&](std::int64_t first, std::int64_t last) {
    return step_of({.fp8 = Fp8Config{.first_layers_bf16 = first, .last_layers_bf16 = last}, .mtp = no_heads});
  };
  CHECK(step(3, 0).gradients == exact.gradients);
  CHECK(step(1, 2).gradients == exact.gradients);
  const double all = gradient_error(step(0, 0), exact), some = gradient_error(step(1, 1), exact);
  CHECK(0 < some);
  CHECK(some < all);

  const Fp8StepOptions evaluation{.evaluate = true};
  Fp8StepOptions in_fp8 = evaluation;
  in_fp8.fp8 = Fp8Config{};
  CHECK(step_of(in_fp8).loss == step_of(evaluation).loss);
}

TEST_CASE("fp8 refuses to recompute the inputs of products") {
  expect_error<UsageError>("recompute \"selective\"",
                           [] { step_of({.fp8 = Fp8Config{}, .recompute = Recompute::selective}); });
}
