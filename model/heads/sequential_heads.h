#pragma once
// MTP modules in a causal chain. Each depth's module reads the hidden state of the previous depth
// (model/layers/mtp_module.h has the formula), and a norm of the module's own follows it:
//
//   hidden(k) = RMSNorm( hᵏ; shared_head.norm ),  hᵏ = moduleₖ(hᵏ⁻¹ or hidden(k − 1), Emb(t_{i+k}))
//
// A repeated module uses the same weights at every depth; their gradient is the sum over depths.

#include "model/heads/prediction_heads.h"
#include "model/layers/mtp_module.h"

namespace foretoken {

class SequentialHeads : public PredictionHeads {
 public:
  static std::vector<ParameterSpec> parameters(const ModelConfig& model, const MtpConfig& mtp,
                                               const std::string& prefix);

  explicit SequentialHeads(const HeadsPlan& plan);

  void add_slot(const TrunkTensors& trunk, const TrunkTensors& dtrunk) override;
  void forward(const StagePass& pass) const override;
  Tensor hidden(const LayerContext& context, int slot, int depth) const override;
  void backward(const Backward& op) const override;
  Tensor next_depth_input(int slot) const override { return input_of(last() + 1, at(slot).saved); }
  TrunkTensor reads() const override {
    return reads_normed(first()) ? TrunkTensor::normed : TrunkTensor::raw;
  }

 private:
  /// Tensors of one microbatch in flight, by depth. Index 0 is depth first() − 1: the trunk's tensors, or
  /// those that the stage receives over the link.
  struct Saved {
    std::vector<Tensor> raw;                // [N, C] each
    std::vector<Tensor> rstd;               // [N] each
    std::vector<Tensor> normed;             // [B, T, C] each
    std::vector<MtpModule::Saved> modules;  // index 0 is depth first()
  };
  /// Tensors of one microbatch between the two halves of backward, indexed like Saved.
  struct Gradients {
    std::vector<Tensor> raw;     // of raw: [N, C] each
    std::vector<Tensor> normed;  // of normed: [B, T, C] each
    std::vector<MtpModule::Gradients> modules;
  };
  struct Slot {
    Saved saved;
    Gradients gradients;  // slots share all but index 0, unless the weight half may run later
  };
  const Slot& at(int slot) const { return slots_[static_cast<std::size_t>(slot)]; }
  /// Index of a depth in vectors that start with depth first() − 1.
  std::size_t state(int depth) const { return static_cast<std::size_t>(depth - first() + 1); }
  Saved plan_saved(const TrunkTensors& trunk);
  Gradients plan_gradients(const TrunkTensors& dtrunk);
  /// Whether module k reads the previous depth's state after its norm.
  bool reads_normed(int depth) const;
  const Tensor& input_of(int depth, const Saved& saved) const;
  /// Computes the gradient of the depth's raw from dnormed [N, C]: overwrites it or, with
  /// `accumulate`, adds to it. Adds to the norm's gradient, unless context.measure_only is set.
  void norm_backward(const LayerContext& context, const Slot& slot, int depth, const Tensor& dnormed,
                     bool accumulate) const;
  // The two halves of the backward of one depth's norm and module; `end` is the stage's last trained depth.
  void depth_backward_input(const StagePass& pass, int depth) const;
  void depth_backward_weight(const StagePass& pass, int depth, int end) const;

  /// The gradient that the loss of one depth alone gives the output of one module, before or after its norm.
  struct ChainGradient {
    int depth = 0;   // depth of the loss
    int module = 0;  // depth of the module; first() − 1: the gradient is that of the stage's input
    Tensor gradient;
    bool of_normed = true;
  };
  /// Propagates the gradient through the chain to the first module's input and adds it to the probe. Does not
  /// change tensors that backward reads later.
  void probe_depth(const StagePass& pass, const ChainGradient& from, const TrunkProbe& probe) const;
  /// Adds the deeper depths' gradient of next_depth_input().
  void add_deeper_gradients(const StagePass& pass, const DepthGradients& deeper,
                            const TrunkProbe* probe) const;

  ModelConfig model_;
  MtpConfig mtp_;
  Arena& arena_;
  ActivationPlan plan_;
  Block::Scratch scratch_;
  bool adds_ = false;               // adds to the modules' gradients, because other stages of the rank do too
  std::vector<MtpModule> modules_;  // by depth
  std::vector<Tensor> norm_;        // by depth: [C]
  std::vector<Tensor> dnorm_;       // by depth: [C]
  Tensor table_, dtable_;           // [V, C]; dtable_ undefined if heads are detached
  /// Buffers of probe_depth(), for models that measure gradients at the trunk.
  struct Probing {
    Tensor gradient;  // [B, T, C] one depth's gradient, propagated toward the trunk
    Tensor dgate_up;  // [N, 2F] used instead of Block::Saved::dgate_up, which shares the memory of gate_up
  };
  std::optional<Probing> probing_;
  std::vector<Slot> slots_;
};

}  // namespace foretoken
