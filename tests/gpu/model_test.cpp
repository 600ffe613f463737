// The whole model on a GPU: comparison with PyTorch, with recomputation and with deterministic mode.

#include <cmath>
#include <limits>

#include "model/objective.h"
#include "runtime/device.h"
#include "runtime/operators/parameters/reductions.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "tests/support/catch.h"
#include "tests/support/models/golden_model.h"
#include "tests/support/models/tiny_model.h"
#include "tests/support/numeric.h"

using namespace foretoken;
using namespace foretoken::testing;

TEST_CASE("on a GPU logits, losses and gradients equal PyTorch's in fp32") {
  const GoldenCase golden = GENERATE(from_range(golden_cases()));
  CAPTURE(golden.name);
  Device device({.kind = DeviceKind::cuda});
  for (const GoldenComparison& each : run_golden(device.stream(), golden, DType::f32)) {
    INFO(each.object);
    // The bounds of the CPU's test (tests/model/golden_test.cpp).
    if (each.object == "losses")
      CHECK(mismatch(each.actual, each.expected, 1e-6, 0) == "");
    else if (each.object.starts_with("logits"))
      CHECK(mismatch(each.actual, each.expected, 1e-5, 1e-5) == "");
    else
      CHECK(mismatch(each.actual, each.expected, 1e-4, 1e-6) == "");
  }
}

// The noise of an object is a relative distance: the maximum over 200 random roundings in PyTorch. Another
// rounding may exceed it slightly. It does not bound single elements; the tests of operators do.
TEST_CASE(
    "on a GPU in bf16 they are as near to PyTorch's fp32 values as roundings to bf16 leave them there") {
  const GoldenCase golden = GENERATE(from_range(golden_cases()));
  CAPTURE(golden.name);
  Device device({.kind = DeviceKind::cuda});
  for (const GoldenComparison& each : run_golden(device.stream(), golden, DType::bf16)) {
    INFO(each.object);
    CHECK(relative_distance(each.actual, each.expected) < 1.5 * each.rounding_noise);
  }
}

namespace {

struct Result {
  double loss = 0;
  std::int64_t gradients = 0;  // fingerprint of the gradients
};

/// Runs a step of two microbatches. The gradient buffer is filled with `left_over` first.
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
  model.begin_step({.request = StepRequest::training(),
                    .microbatches = inputs,
                    .gradient_scales = gradient_scales(mtp, counts)});
  for (int m = 0; m < 2; ++m) {
    model.forward({.microbatch = m});
    model.backward({.microbatch = m});
  }
  std::vector<double> losses(3);
  copy(stream, model.sums().losses, tensor_over(std::span(losses), {3}));
  stream.synchronize();
  return {Objective(mtp).losses(losses, counts).total,
          fingerprint_of(stream, model.parameters().gradients())};
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

TEST_CASE("on a GPU a diagnosed and a sampled step have the CPU's losses, counts and gradients") {
  const NamedHeads heads = GENERATE(from_range(every_kind_of_heads(3)));
  const bool sampled = GENERATE(false, true);
  CAPTURE(heads.name, sampled);
  MtpConfig mtp = heads.mtp;
  mtp.diagnose_every = 1;
  const MicrobatchShape shape{.rows = 2, .length = 40};
  RankModelOptions options = serial_options(tiny_model(), mtp, shape, DType::f32, 1);
  options.microbatches = 2;
  const TinyBatch first(shape, mtp.depths, 11, 1), second(shape, mtp.depths, 11, 2);
  std::vector<MicrobatchInput> inputs{first.input(), second.input()};
  const auto scales = gradient_scales(mtp, target_counts(inputs, mtp.depths, shape.length));
  if (sampled) {
    DepthSet one;
    one.insert(1);
    inputs[0].depths = one;
    inputs[1].depths = DepthSet();
  }
  Device gpu({.kind = DeviceKind::cuda});
  TestStream cpu;
  struct Outcome {
    std::vector<double> sums;
    std::vector<float> gradients;
  };
  const auto step = [&](Stream& stream) {
    RankModel model(stream, options);
    model.parameters().initialize(stream, 3);
    fill(stream, model.parameters().gradients(), std::numeric_limits<double>::quiet_NaN());
    model.begin_step({.request = sampled ? StepRequest::training() : model.diagnosis(),
                      .microbatches = inputs,
                      .gradient_scales = scales});
    for (int m = 0; m < 2; ++m) {
      model.forward({.microbatch = m});
      model.backward({.microbatch = m});
    }
    const Tensor &sums = model.sums().all, gradients = model.parameters().gradients();
    Outcome outcome{std::vector<double>(static_cast<std::size_t>(sums.elements())),
                    std::vector<float>(static_cast<std::size_t>(gradients.elements()))};
    copy(stream, sums, tensor_over(std::span(outcome.sums), sums.shape));
    copy(stream, gradients, tensor_over(std::span(outcome.gradients), gradients.shape));
    stream.synchronize();
    return outcome;
  };
  Outcome actual = step(gpu.stream()), expected = step(cpu);
  // Everything is f32. An element of a gradient is a sum whose terms may cancel: its error is relative to the
  // typical element of the gradients.
  double square = 0;
  for (const float gradient : expected.gradients) square += double(gradient) * gradient;
  const double typical = std::sqrt(square / static_cast<double>(expected.gradients.size()));
  const Shape shape_of_all{std::ssize(expected.gradients)};
  CHECK(mismatch(tensor_over(std::span(actual.gradients), shape_of_all),
                 tensor_over(std::span(expected.gradients), shape_of_all), 1e-4, 1e-4 * typical) == "");
  // Losses and gradients agree to rounding. Counts are compared separately, because ties may be decided
  // differently.
  const auto d = static_cast<std::size_t>(mtp.depths);
  const auto part = [](const std::vector<double>& all, std::size_t from, std::size_t count) {
    return std::vector<double>(all.begin() + static_cast<std::ptrdiff_t>(from),
                               all.begin() + static_cast<std::ptrdiff_t>(from + count));
  };
  for (const auto& [from, count] : {std::pair{std::size_t{0}, d + 1}, std::pair{3 * d + 1, d + 1}}) {
    auto a = part(actual.sums, from, count), b = part(expected.sums, from, count);
    const Shape shape_of_part{std::ssize(a)};
    CHECK(mismatch(tensor_over(std::span(a), shape_of_part), tensor_over(std::span(b), shape_of_part), 1e-4,
                   0) == "");
  }
  CHECK(part(actual.sums, d + 1, d) == part(expected.sums, d + 1, d));
  for (std::size_t k = 0; k < d; ++k) {
    CHECK(std::abs(actual.sums[2 * d + 1 + k] - expected.sums[2 * d + 1 + k]) <= 2);
    const double scale = std::sqrt(expected.sums[3 * d + 1] * expected.sums[3 * d + 2 + k]);
    CHECK(std::abs(actual.sums[4 * d + 2 + k] - expected.sums[4 * d + 2 + k]) <= 1e-4 * scale);
  }
}
