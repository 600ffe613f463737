#include "model/cost.h"

#include "model/heads/head_facts.h"
#include "model/layout.h"

namespace foretoken {

namespace {

/// FLOPs with attention and output head weighted by the given factors; a block's matrix products have weight
/// 1.
ModelCost weighed(const ModelConfig& model, std::int64_t sequence_length, double attention_flop,
                  double head_flop) {
  const auto c = static_cast<double>(model.hidden_size);
  const auto query = static_cast<double>(model.num_attention_heads * model.head_dim);
  const auto key_value = static_cast<double>(model.num_key_value_heads * model.head_dim);
  const double projections = 2 * c * (2 * query + 2 * key_value);
  const double attention = 2 * query * static_cast<double>(sequence_length);
  return {.attention = projections + attention_flop * attention,
          .mlp = 6 * c * static_cast<double>(model.intermediate_size),
          .head = head_flop * 2 * c * static_cast<double>(model.vocab_size)};
}

}  // namespace

ModelCost cost_of(const ModelConfig& model, std::int64_t sequence_length) {
  return weighed(model, sequence_length, 1, 1);
}

ModelCost time_of(const ModelConfig& model, std::int64_t sequence_length) {
  return weighed(model, sequence_length, attention_time, head_time);
}

double depth_cost(const ModelConfig& model, const MtpConfig& mtp, const ModelCost& cost, std::int64_t depth) {
  const bool sampled = mtp.balance == MtpConfig::Balance::sampling;
  const double passed = sampled ? mtp.sample_probabilities.at(static_cast<std::size_t>(depth - 1)) : 1;
  return passed * (head_facts(mtp.kind).cost(model, mtp, cost.block()) + cost.head);
}

double predictor_cost(const ModelConfig& model, const MtpConfig& mtp, const ModelCost& cost) {
  double sum = cost.head;
  for (std::int64_t depth = 1; depth <= mtp.depths; ++depth) sum += depth_cost(model, mtp, cost, depth);
  return sum;
}

double training_flops_per_token(const ModelConfig& model, const MtpConfig& mtp,
                                std::int64_t sequence_length) {
  const ModelCost cost = cost_of(model, sequence_length);
  return 3 * (static_cast<double>(model.num_hidden_layers) * cost.block() + predictor_cost(model, mtp, cost));
}

std::int64_t parameter_count(const ModelConfig& model, const MtpConfig& mtp) {
  std::int64_t count = 0;
  for (const ParameterUnit& unit : units_of(model, mtp, one_stage(model), 0))
    for (const ParameterSpec& spec : unit.specs) count += spec.shape.elements();
  return count;
}

}  // namespace foretoken
