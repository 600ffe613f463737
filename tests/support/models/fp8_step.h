#pragma once
// One training step of a model whose products may run in FP8, on either device: hidden 128, 3 layers, one MTP
// module, two microbatches of 2 × 64 tokens, f32 activations.

#include <optional>
#include <vector>

#include "model/objective.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "tests/support/models/tiny_model.h"

namespace foretoken::testing {

struct Fp8StepOptions {
  std::optional<Fp8Config> fp8;
  MtpConfig mtp{.depths = 1};
  Recompute recompute = Recompute::none;
  bool split_backward = false;
  bool diagnose = false;
  bool evaluate = false;  // runs forward only
};

struct Fp8StepResult {
  double loss = 0;
  std::vector<float> gradients;  // gradients of all parameters; empty for an evaluation
};

inline Fp8StepResult fp8_step(Stream& stream, const Fp8StepOptions& step) {
  const MicrobatchShape shape{.rows = 2, .length = 64};
  const ModelConfig config{.hidden_size = 128,
                           .num_hidden_layers = 3,
                           .num_attention_heads = 4,
                           .num_key_value_heads = 2,
                           .head_dim = 32,
                           .intermediate_size = 256,
                           .vocab_size = 67,
                           .initializer_range = 0.1};
  RankModelOptions options = serial_options(config, step.mtp, shape, DType::f32, 2, step.split_backward);
  options.fp8 = step.fp8;
  options.recompute = step.recompute;
  options.microbatches = 2;
  RankModel model(stream, options);
  model.parameters().initialize(stream, 3);
  const std::int64_t depths = step.mtp.depths;
  const TinyBatch first(shape, depths, config.vocab_size, 1), second(shape, depths, config.vocab_size, 2);
  const std::vector<MicrobatchInput> inputs{first.input(), second.input()};
  const auto counts = target_counts(inputs, depths, shape.length);
  const bool trains = !step.evaluate;
  model.begin_step({.request = step.evaluate   ? StepRequest::evaluation()
                               : step.diagnose ? model.diagnosis()
                                               : StepRequest::training(),
                    .microbatches = inputs,
                    .gradient_scales = gradient_scales(step.mtp, counts)});
  for (int m = 0; m < 2; ++m) model.forward({.microbatch = m, .slot = m});
  for (int m = 0; m < 2 && trains; ++m)
    step.split_backward ? model.backward_input({.microbatch = m, .slot = m})
                        : model.backward({.microbatch = m, .slot = m});
  for (int m = 0; m < 2 && trains && step.split_backward; ++m)
    model.backward_weight({.microbatch = m, .slot = m});

  std::vector<double> losses(static_cast<std::size_t>(depths) + 1);
  copy(stream, model.sums().losses, tensor_over(std::span(losses), {depths + 1}));
  Fp8StepResult result;
  const Tensor gradients = model.parameters().gradients();
  if (trains) result.gradients.resize(static_cast<std::size_t>(gradients.elements()));
  if (trains) copy(stream, gradients, tensor_over(std::span(result.gradients), gradients.shape));
  stream.synchronize();
  result.loss = Objective(step.mtp).losses(losses, counts).total;
  return result;
}

/// ‖a − b‖ / ‖b‖
inline double gradient_error(const Fp8StepResult& a, const Fp8StepResult& b) {
  std::vector<float> x = a.gradients, y = b.gradients;
  const Shape shape{static_cast<std::int64_t>(x.size())};
  return relative_distance(tensor_over(std::span(x), shape), tensor_over(std::span(y), shape));
}

}  // namespace foretoken::testing
