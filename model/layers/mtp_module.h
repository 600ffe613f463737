#pragma once
// One sequential MTP module, depth k (DeepSeek-V3, arXiv 2412.19437, section 2.2; switches in
// model/config.h). The order is that of the released weights; eq. 21 of the paper puts the hidden state
// first:
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
    Tensor out;     // [N, C] =
    const Saved& saved;
  };
  void forward(const LayerContext& context, const Forward& op) const;

  struct BackwardInput {
    Tensor dout;     // [N, C]
    Tensor hidden;   // [N, C], forward's
    Tensor dhidden;  // [N, C] =, or += with `accumulate`
    bool accumulate = false;
    const Saved& saved;
    const Gradients& gradients;
    const Block::Scratch& scratch;
  };
  /// += into the norms' gradients, unless the pass only measures
  void backward_input(const LayerContext& context, const BackwardInput& op) const;

  struct BackwardWeight {
    Tensor dout;    // [N, C]
    Tensor tokens;  // [B, S] i32
    Tensor dtable;  // [V, C] +=, optional
    const Saved& saved;
    const Gradients& gradients;
  };
  /// += into the matrices' gradients, or = if context.halves_run marks the first addition
  void backward_weight(const LayerContext& context, const BackwardWeight& op) const;

 private:
  struct Weights {
    Tensor enorm;    // [C]
    Tensor hnorm;    // [C]
    Tensor eh_proj;  // [C, 2C]
  };
  /// The module's own tensors under `prefix`, without its block's, as views of `flat`, one of the parameters'
  /// buffers.
  static Weights weights(const Parameters& parameters, const Tensor& flat, const std::string& prefix);

  int depth_;
  MtpJoin join_;
  Weights weight_;
  Weights gradient_;
  Linear eh_proj_;
  Block block_;
};

}  // namespace foretoken
