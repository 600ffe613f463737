#pragma once
// Names of the parameters: Hugging Face's, with global layer numbers, whichever stage holds them.

#include <cstdint>
#include <string>

#include "model/config.h"

namespace foretoken {

inline constexpr const char* embedding_name = "model.embed_tokens.weight";
inline constexpr const char* final_norm_name = "model.norm.weight";
inline constexpr const char* head_name = "lm_head.weight";
/// The matrix that the output head multiplies by: lm_head, or the embedding table if they are tied.
const char* output_matrix_name(const ModelConfig& model);

/// Example: "model.layers.7". Depth k of an L-layer model is layer L + k − 1; a repeated module is layer L.
std::string block_prefix(std::int64_t layer);
std::string mtp_prefix(const ModelConfig& model, const MtpConfig& mtp, std::int64_t depth);

}  // namespace foretoken
