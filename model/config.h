#pragma once
// Configuration of the model: its dimensions, under Hugging Face's config names, and its multi-token
// prediction (MTP).

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

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
  double initializer_range = 0.02;   // standard deviation of every matrix at initialization
  bool tie_word_embeddings = false;  // the output head multiplies by the embedding table
};

/// What backward recomputes instead of keeping it from forward. `selective`: the inputs of the matrix
/// products that follow a norm or the SwiGLU gate; recomputing them costs one pass over memory. `full`:
/// everything in a block except its input; recomputing it costs one more forward of the block.
enum class Recompute { none, selective, full };

/// Granularity of the scales of FP8 operands (model/layers/fp8_products.h).
enum class Fp8Recipe { tensor, block };

struct Fp8Config {
  Fp8Recipe recipe = Fp8Recipe::tensor;
  // Number of layers at the start and at the end of the trunk whose products stay in the activations' dtype.
  std::int64_t first_layers_bf16 = 0;
  std::int64_t last_layers_bf16 = 0;
};

/// Multi-token prediction: depth k = 1..D at position i predicts t_{i+k+1}; depth 0 is the main model. h is
/// the trunk's output, n = RMSNorm(h; model.norm), W the output matrix, which all depths share unless stated
/// otherwise.
///
///   sequential  h'ᵏᵢ = Mₖ [ RMSNorm(Emb(t_{i+k})) ; RMSNorm(hᵏ⁻¹ᵢ) ],  hᵏ = norm_k(Blockₖ(h'ᵏ)),
///               logits = hᵏ Wᵀ: DeepSeek-V3 (arXiv 2412.19437, section 2.2), in the order of its released
///               weights; Concat::hidden_first is the order in eq. 21 of the paper
///   parallel    logits = RMSNorm(Blockₖ(x); model.norm) Wᵀ, x the input of the trunk's last block. The
///               trunk's last block is the main model's head and has the same form as the D other heads
///               (Gloeckle et al., arXiv 2404.19737)
///   residual    logits = headₖ(n) Wᵀ; mlp: u = n + eₖ, head = u + W₂ GELU(W₁ u);
///               medusa: head = n + SiLU(W₁ n), W₁ initialized to zero (Cai et al., arXiv 2401.10774);
///               own_output: logits = headₖ(n) Wₖᵀ, Wₖ initialized as a copy of W, as in Medusa's paper
///   linear      logits = n Wₖᵀ, one matrix per depth
///
/// The switches below choose between variants where the sources differ. Every checkpoint stores them.
struct MtpConfig {
  enum class Kind { sequential, parallel, residual, linear };
  enum class Concat { embedding_first, hidden_first };
  enum class Hidden { normed, raw };
  enum class ResidualForm { mlp, medusa };
  enum class Weighting { mean, per_depth, inverse_distance };
  enum class ScheduleForm { constant, linear };
  enum class Balance { none, dynamic, sampling };
  enum class Placement { last, own_stage, stage_per_depth };

  Kind kind = Kind::sequential;
  std::int64_t depths = 0;                         // D
  bool repeat = false;                             // sequential: one module, applied at every depth
  Concat concat = Concat::embedding_first;         // sequential: which half of eh_proj's input comes first
  Hidden trunk_hidden = Hidden::normed;            // sequential: depth 1 reads h normed or raw
  Hidden recycled_hidden = Hidden::normed;         // sequential: depth k + 1 reads hᵏ after norm_k or raw
  ResidualForm residual_form = ResidualForm::mlp;  // residual: form of the network
  bool own_output = false;                         // residual: every depth has its own output matrix
  bool detach_heads = false;  // losses of depths k > 0 give the main model's parameters no gradient
  double main_weight = 1;     // weight of the main loss
  double loss_weight = 0.3;   // λ of L = main_weight · L_main + (λ/D)·Σₖ Lₖ
  /// Which pipeline stage holds the heads. `last`: the last stage, with the main head and trunk layers.
  /// `own_stage`: the last stage, which then holds no trunk layer. `stage_per_depth`: one stage per depth,
  /// after the main head's stage.
  Placement placement = Placement::last;

  // Settings of the objective (model/objective.h). Comments start with the enumerator that uses a setting.
  Weighting weighting = Weighting::mean;
  std::vector<double> depth_weights;                // per_depth: [D] weight of each depth
  double auxiliary_factor = 0.1;                    // inverse_distance: depth k's weight is this / (k + 1)
  std::vector<std::pair<double, double>> schedule;  // (tokens seen, factor); empty: the factor is 1
  ScheduleForm schedule_form = ScheduleForm::constant;
  Balance balance = Balance::none;
  double balance_ratio = 0.1;                // dynamic: ratio of a depth's gradient norm to the main loss's
  std::vector<double> sample_probabilities;  // sampling: [D] probability that a microbatch trains a depth
  std::int64_t diagnose_every = 0;           // interval in steps; 0: never
};

/// Whether diagnosed steps measure the gradient that each depth's loss alone gives the trunk.
inline bool measures_gradients(const MtpConfig& mtp) {
  return mtp.depths > 0 && mtp.diagnose_every > 0 && !mtp.detach_heads;
}

}  // namespace foretoken
