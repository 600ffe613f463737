#pragma once
// MTP modules in a causal chain: each depth's module takes the hidden state of the depth before
// (model/heads/mtp_module.h has the formula), and ends in a norm of its own:
//
//   hidden(k) = RMSNorm( hᵏ; shared_head.norm ),  hᵏ = moduleₖ(hᵏ⁻¹ or hidden(k − 1), Emb(t_{i+k}))
//
// Where the module is repeated, every depth has the same weights, and their gradient is the sum over depths.

#include "model/heads/mtp_module.h"
#include "model/heads/prediction_heads.h"

namespace foretoken {

class SequentialHeads : public PredictionHeads {
 public:
  static std::vector<ParameterSpec> parameters(const ModelConfig& model, const MtpConfig& mtp,
                                               const std::string& prefix);
  static double cost(const ModelConfig& model, const MtpConfig& mtp, double block);

  explicit SequentialHeads(const HeadsPlan& plan);

  void add_slot(const TrunkTensors& trunk, const TrunkTensors& dtrunk) override;
  void forward(const LayerContext& context, const MicrobatchInput& input, int slot) const override;
  Tensor hidden(const LayerContext& context, int slot, int depth) const override;
  void backward(const LayerContext& context, const MicrobatchInput& input, int slot, Halves halves,
                const DepthLoss& loss, const TrunkProbe& probe) const override;
  Tensor TrunkTensors::*reads() const override {
    return takes_normed(1) ? &TrunkTensors::normed : &TrunkTensors::raw;
  }

 private:
  /// Of one microbatch in flight, by depth; depth 0 is the trunk.
  struct Saved {
    std::vector<Tensor> raw;     // [D + 1] of [N, C]
    std::vector<Tensor> rstd;    // [D + 1] of [N]
    std::vector<Tensor> normed;  // [D + 1] of [B, T, C]
    std::vector<MtpModule::Saved> modules;
  };
  /// Of one microbatch between the two halves of backward.
  struct Gradients {
    std::vector<Tensor> draw;     // [D + 1] of [N, C]
    std::vector<Tensor> dnormed;  // [D + 1] of [B, T, C]
    std::vector<MtpModule::Gradients> modules;
  };
  Saved plan_saved(const TrunkTensors& trunk);
  Gradients plan_gradients(const TrunkTensors& dtrunk);
  /// Whether module k takes the state of the depth before after its norm.
  bool takes_normed(int depth) const;
  const Tensor& input_of(int depth, const Saved& saved) const;
  /// dnormed [N, C] → draw of the depth, = or += what is there; += into the norm's gradient
  void norm_backward(const LayerContext& context, const Saved& saved, const Gradients& gradients, int depth,
                     const Tensor& dnormed, bool accumulate) const;
  /// The gradient that the loss of one depth alone gives the trunk, through the chain; it leaves what
  /// backward reads as it is.
  void probe_depth(const LayerContext& context, const Saved& saved, const Gradients& gradients, int depth,
                   const TrunkProbe& probe) const;

  ModelConfig model_;
  MtpConfig mtp_;
  Arena& arena_;
  ActivationPlan plan_;
  Block::Scratch scratch_;
  std::vector<MtpModule> modules_;  // [D]
  std::vector<Tensor> norm_;        // [D] of [C]
  std::vector<Tensor> dnorm_;       // [D] of [C]
  Tensor table_, dtable_;           // [V, C]; dtable_ undefined where heads are detached
  Tensor probed_;                   // [B, T, C] one depth's gradient on its way down; where it is measured
  Tensor probed_gate_up_;           // [N, 2F] likewise: a block's backward overwrites what it saved
  std::vector<Saved> saved_;        // by slot
  std::vector<Gradients> gradients_;
};

}  // namespace foretoken
