#pragma once
// What the model costs: matrix FLOPs, the time they are worth, and parameters, for the partition, the
// start-up table and MFU.
//
// A matrix that a token passes through costs 2 FLOPs per weight forward and 4 backward. Causal attention
// costs, per token and layer, 2 products over on average T/2 keys: 2·T·NH·HS forward, twice that backward. So
// a training step's model FLOPs per token are 6 · (weights passed, the head once per predicted depth) + 6 ·
// blocks passed · NH·HS · T. Work that a step leaves out where heads are detached is not subtracted.

#include <cstdint>

#include "model/config.h"

namespace foretoken {

/// Forward, per token; backward is twice that.
struct ModelCost {
  double attention = 0;  // the attention half of a decoder block: q, k, v and o products, attention
  double mlp = 0;        // its MLP half
  double head = 0;       // the output head, once per predicted depth
  double block() const { return attention + mlp; }
};

/// FLOPs.
ModelCost cost_of(const ModelConfig& model, std::int64_t sequence_length);

/// What a FLOP takes of time, in that of a FLOP of a block's matrix products: attention reads more and
/// multiplies less at once, the output head's products are the largest of all. Measured on an H100 (bf16,
/// hidden 2048, 16 heads of 128, T 2048, V 32768). They weigh stages against each other, nothing else; on
/// CPUs they are as good a guess as equal FLOPs.
inline constexpr double attention_time = 2.0;
inline constexpr double head_time = 0.88;

/// FLOPs weighed by their time, to deal layers by.
ModelCost time_of(const ModelConfig& model, std::int64_t sequence_length);

/// Of a depth k > 0 with its output head, where blocks and output heads cost `cost`; the expected one where
/// depths are sampled.
double depth_cost(const ModelConfig& model, const MtpConfig& mtp, const ModelCost& cost, std::int64_t depth);
/// Of the output heads of all depths, and what is before them.
double predictor_cost(const ModelConfig& model, const MtpConfig& mtp, const ModelCost& cost);

/// Model FLOPs per token of a training step.
double training_flops_per_token(const ModelConfig& model, const MtpConfig& mtp, std::int64_t sequence_length);

/// All parameters, each once.
std::int64_t parameter_count(const ModelConfig& model, const MtpConfig& mtp);

}  // namespace foretoken
