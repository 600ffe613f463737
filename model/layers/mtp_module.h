#pragma once
// One sequential MTP module, depth k (DeepSeek-V3, arXiv 2412.19437, section 2.2; model/config.h has the
// switches). The embedding comes first, as in the released weights; in eq. 21 of the paper the hidden state
// comes first:
//
//   joined = [ RMSNorm(Emb(t_{i+k}); enorm) ; RMSNorm(hᵏ⁻¹ᵢ; hnorm) ]    or in reverse order
//   out    = Blockₖ( eh_proj · joined )
//
// SequentialHeads (model/heads/sequential_heads.h) holds and applies the module's final norm.

#include <string>
#include <vector>

#include "model/layers/block.h"
#include "model/layers/mtp_join.h"

namespace foretoken {

class MtpModule {
 public:
  static std::vector<ParameterSpec> parameters(const ModelConfig& config, const std::string& prefix);

  MtpModule(const ModelConfig& config, const MtpConfig& mtp, const Parameters& parameters,
            const std::string& prefix, int depth, const ActivationPlan& plan);

  struct Saved {
    Tensor embedded;                    // [B, T, C]
    Tensor rstd_embedded, rstd_hidden;  // [N]
    Tensor joined;                      // [N, 2C]
    QuantizedTensor joined_transposed;  // in FP8
    Tensor projected;                   // [N, C]
    Block::Saved block;
  };
  struct Gradients {
    Tensor dprojected;                      // [N, C]
    QuantizedTensor dprojected_transposed;  // in FP8
    Tensor djoined;                         // [N, 2C]
    Tensor dembedded;                       // [B, T, C]
    Block::Gradients block;
  };
  static Saved plan_saved(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                          const Block::Scratch& scratch);
  static Gradients plan_gradients(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                                  const Block::Scratch& scratch);

  struct Forward {
    Tensor tokens;  // [B, S] i32
    Tensor table;   // [V, C]
    Tensor hidden;  // [N, C] hᵏ⁻¹
    Tensor out;     // [N, C], overwritten
    const Saved& saved;
  };
  void forward(const LayerContext& context, const Forward& op) const;

  struct BackwardInput {
    Tensor dout;     // [N, C]
    Tensor hidden;   // [N, C], forward's
    Tensor dhidden;  // [N, C], overwritten or, with `accumulate`, added to
    bool accumulate = false;
    const Saved& saved;
    const Gradients& gradients;
    const Block::Scratch& scratch;
  };
  /// Adds to the norms' gradients, unless context.measure_only is set.
  void backward_input(const LayerContext& context, const BackwardInput& op) const;

  struct BackwardWeight {
    Tensor dout;    // [N, C]
    Tensor tokens;  // [B, S] i32
    Tensor dtable;  // [V, C], added to; optional
    const Saved& saved;
    const Gradients& gradients;
  };
  /// Adds to the matrices' gradients, or overwrites them in the step's first microbatch (context.halves_run).
  void backward_weight(const LayerContext& context, const BackwardWeight& op) const;

 private:
  struct Weights {
    Tensor enorm;    // [C]
    Tensor hnorm;    // [C]
    Tensor eh_proj;  // [C, 2C]
  };
  /// Views of the module's tensors, without its block's, in `flat`, which is parameters.weights() or
  /// parameters.gradients().
  static Weights weights(const Parameters& parameters, const Tensor& flat, const std::string& prefix);

  int depth_;
  MtpJoin join_;
  Weights weight_;
  Weights gradient_;
  Linear eh_proj_;
  Block block_;
};

}  // namespace foretoken
