#include "tests/support/models/tiny_model.h"

#include "model/objective.h"
#include "runtime/random.h"

namespace foretoken::testing {

ModelConfig tiny_model() {
  return {.hidden_size = 8,
          .num_hidden_layers = 2,
          .num_attention_heads = 4,
          .num_key_value_heads = 2,
          .head_dim = 4,
          .intermediate_size = 12,
          .vocab_size = 11,
          .initializer_range = 0.3};
}

RankModelOptions serial_options(const ModelConfig& model, const MtpConfig& mtp, const MicrobatchShape& shape,
                                DType dtype, int slots, bool split_backward) {
  RankModelOptions options;
  options.model = model;
  options.mtp = mtp;
  options.layout = one_stage(model);
  options.shape = shape;
  options.values = options.activations = dtype;
  options.slots.push_back(slots);
  options.split_backward = split_backward;
  return options;
}

std::vector<NamedHeads> every_kind_of_heads(std::int64_t depths) {
  using Kind = MtpConfig::Kind;
  const MtpConfig mtp{.depths = depths, .loss_weight = 0.6};
  std::vector<NamedHeads> all{{"sequential", mtp},
                              {"repeated", mtp},
                              {"parallel", mtp},
                              {"residual", mtp},
                              {"medusa", mtp},
                              {"linear", mtp},
                              {"medusa with matrices", mtp}};
  all[1].mtp.repeat = true;
  all[2].mtp.kind = Kind::parallel;
  all[3].mtp.kind = all[4].mtp.kind = all[6].mtp.kind = Kind::residual;
  all[4].mtp.residual_form = all[6].mtp.residual_form = MtpConfig::ResidualForm::medusa;
  all[6].mtp.own_output = true;
  all[5].mtp.kind = Kind::linear;
  return all;
}

TinyBatch::TinyBatch(const MicrobatchShape& shape, std::int64_t depths, std::int64_t vocab_size,
                     std::uint64_t seed, bool documents) {
  const std::int64_t width = shape.length + 1 + depths;
  input_ = {.tokens = arena_.tensor(DType::i32, {shape.rows, width}),
            .document_start = arena_.tensor(DType::i32, {shape.rows, width})};
  const CounterRng rng(seed, "tiny batch");
  for (std::int64_t b = 0; b < shape.rows; ++b) {
    const auto border = static_cast<std::int64_t>(rng.u64(static_cast<std::uint64_t>(b) + 1000000) %
                                                  static_cast<std::uint64_t>(width));
    for (std::int64_t t = 0; t < width; ++t) {
      const auto i = static_cast<std::uint64_t>(b * width + t);
      input_.tokens.as<std::int32_t>()[i] =
          static_cast<std::int32_t>(rng.u64(i) % static_cast<std::uint64_t>(vocab_size));
      input_.document_start.as<std::int32_t>()[i] =
          documents && t >= border ? static_cast<std::int32_t>(border) : 0;
    }
  }
}

std::vector<std::int64_t> target_counts(const std::vector<MicrobatchInput>& microbatches, std::int64_t depths,
                                        std::int64_t length) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(depths) + 1);
  for (const MicrobatchInput& input : microbatches) add_target_counts(input, length, counts);
  return counts;
}

std::vector<double> gradient_scales(const MtpConfig& mtp, const std::vector<std::int64_t>& counts) {
  return Objective(mtp).gradient_scales(counts);
}

}  // namespace foretoken::testing
