#pragma once
// Compares the texts that a model distributed over pipeline ranks generates with the texts of the same model
// on one rank.

#include <optional>

#include "model/generation/generator.h"
#include "tests/support/catch.h"
#include "tests/support/models/tiny_model.h"

namespace foretoken::testing {

struct Spread {
  MtpConfig mtp;
  bool tied = false;
  DType dtype = DType::f32;
  SamplingOptions sampling;
  TreeShape drafts;
  int stages = 1;
};

/// The texts that a decoder generates for the prompts. One prompt is longer than options.rows, so the decoder
/// computes it in several passes.
inline std::vector<std::vector<std::int32_t>> texts_by(Decoder& decoder, const Spread& spread) {
  const std::vector<std::vector<std::int32_t>> prompts{
      {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5}, {5}, {3, 5, 8, 9, 7, 9, 3}};
  std::optional<HeadDrafter> drafter;
  if (!spread.drafts.empty()) drafter.emplace(decoder);
  Generator generator(
      decoder,
      {.sampling = spread.sampling, .seed = 3, .max_tokens = 20, .vocabulary = 11, .drafts = spread.drafts},
      prompts, drafter ? &*drafter : nullptr);
  while (generator.round([](std::size_t, std::span<const std::int32_t>) { return std::nullopt; })) {
  }
  std::vector<std::vector<std::int32_t>> texts;
  for (std::size_t i = 0; i < prompts.size(); ++i)
    texts.emplace_back(generator.text(i).begin(), generator.text(i).end());
  return texts;
}

/// Checks that several pipelines of neighbouring ranks, which run at the same time, all generate this text.
inline void check_spread(MpiCommunicator& world, Stream& stream, const Spread& spread) {
  DecoderOptions options{.model = tiny_model(),
                         .mtp = spread.mtp,
                         .dtype = spread.dtype,
                         .sequences = 3,
                         .positions = 40,
                         .branches = branches_of(spread.drafts),
                         .rows = 7,
                         .logits = 3 * (1 + drafts_in(spread.drafts))};
  options.model.num_hidden_layers = 5;  // some stages start or end inside a layer
  options.model.tie_word_embeddings = spread.tied;
  TrunkPipeline pipeline(world, stream, decoding_layout(options.model, spread.mtp, spread.stages));
  Decoder whole(stream, options);
  options.pipeline = &pipeline;
  Decoder stage(stream, options);
  for (Decoder* decoder : {&whole, &stage}) {
    decoder->parameters().initialize(stream, 11);
    decoder->parameters().round_weights(stream);
  }
  if (!pipeline.is_last()) return stage.follow();
  const auto texts = texts_by(stage, spread);
  stage.stop_followers();
  CHECK(texts == texts_by(whole, spread));
}

}  // namespace foretoken::testing
