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
                const DepthLoss& loss, const TrunkProbe& probe, const DepthGradients& deeper) const override;
  Tensor hands_on(int slot) const override {
    return input_of(last() + 1, saved_[static_cast<std::size_t>(slot)]);
  }
  Tensor TrunkTensors::*reads() const override {
    return takes_normed(first()) ? &TrunkTensors::normed : &TrunkTensors::raw;
  }

 private:
  /// Of one microbatch in flight, by depth from first() − 1 on, which is the trunk or what came down the
  /// link.
  struct Saved {
    std::vector<Tensor> raw;                // of [N, C]
    std::vector<Tensor> rstd;               // of [N]
    std::vector<Tensor> normed;             // of [B, T, C]
    std::vector<MtpModule::Saved> modules;  // from first() on
  };
  /// Of one microbatch between the two halves of backward.
  struct Gradients {
    std::vector<Tensor> draw;     // of [N, C]
    std::vector<Tensor> dnormed;  // of [B, T, C]
    std::vector<MtpModule::Gradients> modules;
  };
  /// Of a depth in what begins with the depth before the first.
  std::size_t state(int depth) const { return static_cast<std::size_t>(depth - first() + 1); }
  Saved plan_saved(const TrunkTensors& trunk);
  Gradients plan_gradients(const TrunkTensors& dtrunk);
  /// Whether module k takes the state of the depth before after its norm.
  bool takes_normed(int depth) const;
  const Tensor& input_of(int depth, const Saved& saved) const;
  /// dnormed [N, C] → draw of the depth, = or += what is there; += into the norm's gradient
  void norm_backward(const LayerContext& context, const Saved& saved, const Gradients& gradients, int depth,
                     const Tensor& dnormed, bool accumulate) const;
  /// The gradient that the loss of one depth alone gives what the first module takes, through the chain from
  /// `module` down, of whose state it gives `gradient`: of the normed one, or the raw one. It leaves what
  /// backward reads as it is.
  void probe_depth(const LayerContext& context, const Saved& saved, const Gradients& gradients, int depth,
                   int module, const Tensor& gradient, bool of_normed, const TrunkProbe& probe) const;
  /// Adds what deeper depths give the state that is handed on.
  void take_deeper(const LayerContext& context, const Saved& saved, const Gradients& gradients,
                   const DepthGradients& deeper, const TrunkProbe& probe) const;

  ModelConfig model_;
  MtpConfig mtp_;
  Arena& arena_;
  ActivationPlan plan_;
  Block::Scratch scratch_;
  bool adds_ = false;               // other stages of the rank contribute to the module's gradient too
  std::vector<MtpModule> modules_;  // by depth
  std::vector<Tensor> norm_;        // of [C]
  std::vector<Tensor> dnorm_;       // of [C]
  Tensor table_, dtable_;           // [V, C]; dtable_ undefined where heads are detached
  Tensor probed_;                   // [B, T, C] one depth's gradient on its way down; where it is measured
  Tensor probed_gate_up_;           // [N, 2F] likewise: a block's backward overwrites what it saved
  std::vector<Saved> saved_;        // by slot
  std::vector<Gradients> gradients_;
};

}  // namespace foretoken
