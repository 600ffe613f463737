#include "model/cost.h"

#include <numeric>

#include "model/heads/prediction_heads.h"
#include "model/layout.h"

namespace foretoken {

ModelCost cost_of(const ModelConfig& model, std::int64_t sequence_length) {
  const auto c = static_cast<double>(model.hidden_size);
  const auto attention = static_cast<double>(model.num_attention_heads * model.head_dim);
  const auto key_value = static_cast<double>(model.num_key_value_heads * model.head_dim);
  const double weights =
      c * (attention + 2 * key_value) + attention * c + 3 * c * double(model.intermediate_size);
  const double block = 2 * weights + 2 * attention * static_cast<double>(sequence_length);
  return {.block = block, .head = 2 * c * static_cast<double>(model.vocab_size)};
}

namespace {

/// How many depths a token passes, on average where they are sampled.
double depths_passed(const MtpConfig& mtp) {
  if (mtp.balance != MtpConfig::Balance::sampling) return static_cast<double>(mtp.depths);
  return std::accumulate(mtp.sample_probabilities.begin(), mtp.sample_probabilities.end(), 0.0);
}

}  // namespace

double predictor_cost(const ModelConfig& model, const MtpConfig& mtp, std::int64_t sequence_length) {
  const ModelCost cost = cost_of(model, sequence_length);
  const double depths = depths_passed(mtp);
  return depths * head_kind(mtp.kind).cost(model, mtp, cost.block) + (1 + depths) * cost.head;
}

double training_flops_per_token(const ModelConfig& model, const MtpConfig& mtp,
                                std::int64_t sequence_length) {
  return 3 * (static_cast<double>(model.num_hidden_layers) * cost_of(model, sequence_length).block +
              predictor_cost(model, mtp, sequence_length));
}

std::int64_t parameter_count(const ModelConfig& model, const MtpConfig& mtp) {
  const ModelLayout serial{.blocks_per_stage = {static_cast<int>(model.num_hidden_layers)}};
  std::int64_t count = 0;
  for (const ParameterUnit& unit : units_of(model, mtp, serial, 0))
    for (const ParameterSpec& spec : unit.specs) count += spec.shape.elements();
  return count;
}

}  // namespace foretoken
