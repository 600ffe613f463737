// The whole model on a GPU: parity with PyTorch, and with its own recomputation and deterministic mode.

#include <limits>

#include "model/objective.h"
#include "runtime/device.h"
#include "runtime/operators/elementwise.h"
#include "runtime/operators/reductions.h"
#include "tests/support/catch.h"
#include "tests/support/golden_model.h"
#include "tests/support/numeric.h"
#include "tests/support/tiny_model.h"

using namespace foretoken;
using namespace foretoken::testing;

TEST_CASE("on a GPU logits, losses and gradients equal PyTorch's in fp32") {
  const GoldenCase golden = GENERATE(from_range(golden_cases()));
  CAPTURE(golden.name);
  Device device({.kind = DeviceKind::cuda});
  for (const GoldenComparison& each : run_golden(device.stream(), golden, DType::f32)) {
    INFO(each.object);
    CHECK(relative_error(each.actual, each.expected) < (each.object == "losses" ? 1e-6 : 2e-5));
  }
}

// The bounds are PyTorch's own: in bf16 its logits on these models are off by up to 1.2 %, its gradients by
// up to 4.5 % but for one tensor (11 %), its losses by 0.1 %.
TEST_CASE("on a GPU in bf16 they are as near to PyTorch's fp32 values as PyTorch's bf16") {
  const GoldenCase golden = GENERATE(from_range(golden_cases()));
  CAPTURE(golden.name);
  Device device({.kind = DeviceKind::cuda});
  for (const GoldenComparison& each : run_golden(device.stream(), golden, DType::bf16)) {
    INFO(each.object);
    const double bound = each.object == "losses" ? 1e-3 : each.object.starts_with("logits") ? 1.2e-2 : 4.5e-2;
    CHECK(relative_error(each.actual, each.expected) < bound);
  }
}

namespace {

struct Result {
  double loss = 0;
  std::uint64_t gradients = 0;  // checksum
};

/// Of two microbatches, in a buffer of gradients that is filled with `left_over` first.
Result train_step(const Device::Options& where, Recompute recompute, double left_over = 0) {
  Device device(where);
  Stream& stream = device.stream();
  const MicrobatchShape shape{.rows = 2, .length = 100};
  const MtpConfig mtp{.depths = 2};
  ModelConfig config = tiny_model();
  config.head_dim = 32;
  config.hidden_size = 128;
  RankModelOptions options = serial_options(config, mtp, shape, DType::f32, 1);
  options.activations = DType::bf16;
  options.recompute = recompute;
  options.microbatches = 2;
  RankModel model(stream, options);
  model.parameters().initialize(stream, 3);
  fill(stream, model.parameters().gradients(), left_over);
  const TinyBatch first(shape, mtp.depths, config.vocab_size, 1),
      second(shape, mtp.depths, config.vocab_size, 2);
  const std::vector<MicrobatchInput> inputs{first.input(), second.input()};
  const auto counts = target_counts(inputs, mtp.depths, shape.length);
  model.begin_step({.microbatches = inputs, .gradient_scales = gradient_scales(mtp, counts)});
  for (int m = 0; m < 2; ++m) {
    model.forward(0, m, 0);
    model.backward(0, m, 0);
  }
  std::vector<double> losses(3);
  copy(stream, model.losses(), tensor_over(std::span(losses), {3}));
  stream.synchronize();
  return {Objective(mtp).losses(losses, counts).total, checksum(stream, model.parameters().gradients())};
}

}  // namespace

TEST_CASE("what backward recomputes has the bits that forward had") {
  const Device::Options device{.kind = DeviceKind::cuda, .deterministic = true};
  const Result kept = train_step(device, Recompute::none);
  for (const Recompute recompute : {Recompute::selective, Recompute::full}) {
    const Result again = train_step(device, recompute);
    CHECK(again.loss == kept.loss);
    CHECK(again.gradients == kept.gradients);
  }
}

TEST_CASE("in deterministic mode a step gives the same bits every time") {
  const Device::Options device{.kind = DeviceKind::cuda, .deterministic = true};
  const Result first = train_step(device, Recompute::selective);
  for (int times = 0; times < 3; ++times) {
    const Result again = train_step(device, Recompute::selective);
    CHECK(again.loss == first.loss);
    CHECK(again.gradients == first.gradients);
  }
}

TEST_CASE("on a GPU a step's gradients have the same bits whatever the buffer held before it") {
  const Device::Options device{.kind = DeviceKind::cuda, .deterministic = true};
  const Result expected = train_step(device, Recompute::selective);
  const Result poisoned = train_step(device, Recompute::selective, std::numeric_limits<double>::quiet_NaN());
  CHECK(poisoned.loss == expected.loss);
  CHECK(poisoned.gradients == expected.gradients);
}
