#pragma once
// Cost of the model: matrix FLOPs, their relative time, and number of parameters. The partition, the start-up
// table and MFU use it.
//
// A token that passes through a matrix costs 2 FLOPs per weight in forward and 4 in backward. Causal
// attention costs, per token and layer, 2 products over T/2 keys on average: 2·T·NH·HS in forward, twice
// that in backward. A training step's model FLOPs per token are therefore 6 · P + 6 · n · NH·HS · T, where P
// is the number of weights that the token passes through (the output head counts once per depth) and n the
// number of blocks. Work that a step skips because heads are detached is not subtracted.

#include <cstdint>

#include "model/config.h"

namespace foretoken {

/// Cost of forward per token; backward costs twice as much.
struct ModelCost {
  double attention = 0;  // the attention half of a decoder block: q, k, v and o products, attention
  double mlp = 0;        // its MLP half
  double head = 0;       // the output head, once per predicted depth
  double block() const { return attention + mlp; }
};

/// FLOPs.
ModelCost cost_of(const ModelConfig& model, std::int64_t sequence_length);

/// Time of one FLOP of attention and of the output head, relative to one FLOP of a block's matrix products.
/// Attention reads more memory per FLOP and has smaller products; the output head has the largest products of
/// all. Measured on an H100 (bf16, hidden 2048, 16 heads of 128, T 2048, V 32768). The factors only weigh
/// stages against each other; on CPUs equal factors would be as good an estimate.
inline constexpr double attention_time = 2.0;
inline constexpr double head_time = 0.88;

/// FLOPs weighted by their relative time; the partition assigns layers to stages by it.
ModelCost time_of(const ModelConfig& model, std::int64_t sequence_length);

/// Cost of depth k > 0 with its output head, in the unit of `cost`, which holds the costs of blocks and
/// output heads. If depths are sampled, this is the expected cost.
double depth_cost(const ModelConfig& model, const MtpConfig& mtp, const ModelCost& cost, std::int64_t depth);
/// Cost of the output heads of all depths, 0 included, and of the prediction heads.
double predictor_cost(const ModelConfig& model, const MtpConfig& mtp, const ModelCost& cost);

/// Model FLOPs per token of a training step.
double training_flops_per_token(const ModelConfig& model, const MtpConfig& mtp, std::int64_t sequence_length);

/// Number of parameters; a shared parameter counts once.
std::int64_t parameter_count(const ModelConfig& model, const MtpConfig& mtp);

}  // namespace foretoken
