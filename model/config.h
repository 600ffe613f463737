#pragma once
// What is trained: the model's dimensions (Hugging Face's config names) and its multi-token prediction.

#include <cstdint>
#include <string>

namespace foretoken {

struct ModelConfig {
  std::int64_t hidden_size = 128;        // C
  std::int64_t num_hidden_layers = 4;    // L
  std::int64_t num_attention_heads = 4;  // NH
  std::int64_t num_key_value_heads = 4;  // NKV, divides NH
  std::int64_t head_dim = 32;            // HS, even
  std::int64_t intermediate_size = 352;  // F
  std::int64_t vocab_size = 257;         // V
  std::int64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-5;
  double rope_theta = 10000;
  double initializer_range = 0.02;   // std of every matrix at the start
  bool tie_word_embeddings = false;  // the output head is the embedding table
};

/// What backward computes again instead of keeping it from forward. `selective`: the inputs of the matrix
/// products that follow a norm or the SwiGLU gate, which cost a pass over memory; `full`: all of a block but
/// its input, which costs the block's forward once more.
enum class Recompute { none, selective, full };

/// Sequential MTP modules in DeepSeek-V3's form, depth k = 1..D (arXiv 2412.19437, section 2.2):
///   h'ᵏᵢ = Mₖ [ RMSNorm(Emb(t_{i+k})) ; RMSNorm(hᵏ⁻¹ᵢ) ],  hᵏ = norm_k(Blockₖ(h'ᵏ)),  Pᵏ predicts t_{i+k+1}.
/// The switches say what the sources leave open; they are stored with every checkpoint.
struct MtpConfig {
  enum class Concat { embedding_first, hidden_first };
  enum class Hidden { normed, raw };

  std::int64_t depths = 0;                  // D
  Concat concat = Concat::embedding_first;  // which half of eh_proj's input comes first
  Hidden trunk_hidden = Hidden::normed;     // h⁰ after or before the trunk's final norm
  Hidden recycled_hidden = Hidden::normed;  // what depth k+1 takes: hᵏ after or before norm_k
  double loss_weight = 0.3;                 // λ of L = L_main + (λ/D)·Σₖ Lₖ
};

}  // namespace foretoken
