#pragma once
// Runs the tiny model on a whole text, without caches.

#include <vector>

#include "tests/support/models/tiny_model.h"

namespace foretoken::testing {

/// [V] logits of a level (model/decoder/decoder.h) at the position `from_end` from the end of the text;
/// the weights have seed 11. After the end of the text the tokens of a level are 0.
inline std::vector<float> whole_logits(const std::vector<std::int32_t>& text, const MtpConfig& mtp = {},
                                       int level = 0, std::int64_t from_end = 1) {
  TestStream stream;
  const ModelConfig model = tiny_model();
  const auto length = static_cast<std::int64_t>(text.size()), width = length + 1 + mtp.depths;
  RankModel whole(stream, serial_options(model, mtp, {.rows = 1, .length = length}, DType::f32, 1));
  whole.parameters().initialize(stream, 11);
  std::vector<std::int32_t> tokens = text, starts(static_cast<std::size_t>(width));
  tokens.resize(static_cast<std::size_t>(width));
  const std::vector<MicrobatchInput> input{{.tokens = tensor_over(std::span(tokens), {1, width}),
                                            .document_start = tensor_over(std::span(starts), {1, width})}};
  whole.begin_step({.request = StepRequest::evaluation(), .microbatches = input});
  whole.forward({});
  std::vector<float> logits(static_cast<std::size_t>(length * model.vocab_size));
  whole.logits({.depth = level, .out = tensor_over(std::span(logits), {length, model.vocab_size})});
  const auto row = logits.end() - from_end * model.vocab_size;
  return {row, row + model.vocab_size};
}

}  // namespace foretoken::testing
