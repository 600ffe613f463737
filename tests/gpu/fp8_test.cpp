// Compares a training step in FP8 on a GPU with its emulation on the CPU.

#include <cmath>

#include "runtime/device.h"
#include "tests/support/catch.h"
#include "tests/support/models/fp8_step.h"

using namespace foretoken;
using namespace foretoken::testing;

// Sums differ between the devices, because the tensor cores keep about 14 bits. Some operands therefore round
// to the adjacent 8-bit number. This error is smaller than the error of rounding all operands to 8 bits.
TEST_CASE("a step in fp8 on a GPU is nearer to its emulation on the CPU than the emulation is to f32") {
  const Fp8Recipe recipe = GENERATE(Fp8Recipe::tensor, Fp8Recipe::block);
  CAPTURE(static_cast<int>(recipe));
  Device device({.kind = DeviceKind::cuda});
  TestStream cpu(4);
  const Fp8StepOptions options{.fp8 = Fp8Config{.recipe = recipe}};
  const Fp8StepResult exact = fp8_step(cpu, {}), emulated = fp8_step(cpu, options),
                      gpu = fp8_step(device.stream(), options);
  const double rounding = gradient_error(emulated, exact), apart = gradient_error(gpu, emulated);
  CAPTURE(rounding, apart);
  CHECK(apart < 0.8 * rounding);
  CHECK(std::abs(gpu.loss - emulated.loss) < 5e-3 * emulated.loss);
}

TEST_CASE("on a GPU a step in fp8 has the same bits whatever backward recomputes, and every time") {
  const Fp8Recipe recipe = GENERATE(Fp8Recipe::tensor, Fp8Recipe::block);
  CAPTURE(static_cast<int>(recipe));
  const auto step = [&](Recompute recompute) {
    Device device({.kind = DeviceKind::cuda, .deterministic = true});
    return fp8_step(device.stream(), {.fp8 = Fp8Config{.recipe = recipe}, .recompute = recompute});
  };
  const Fp8StepResult first = step(Recompute::none);
  for (const Recompute recompute : {Recompute::none, Recompute::full}) {
    const Fp8StepResult again = step(recompute);
    CHECK(again.loss == first.loss);
    CHECK(again.gradients == first.gradients);
  }
}
