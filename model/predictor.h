#pragma once
// What follows the trunk on the last stage: the final norm, the MTP modules and the head with its losses.
//
//   depth 0:  h⁰ = x (raw),        n⁰ = RMSNorm(h⁰; model.norm),        predicts t_{i+1}
//   depth k:  hᵏ = moduleₖ(hᵏ⁻¹ or nᵏ⁻¹, Emb(t_{i+k})),  nᵏ = RMSNorm(hᵏ; shared_head.norm),  predicts
//   t_{i+k+1} L = Σₖ weightₖ · mean over the valid targets of depth k in the whole global batch
//
// Losses and their gradients are taken in backward's input half, chunk by chunk, so no gradient of n is kept
// from forward to backward. The head's weight gradient is accumulated there as well: its logits exist at no
// other time.

#include <memory>
#include <span>
#include <vector>

#include "model/mtp_module.h"
#include "runtime/operators/cross_entropy_head.h"

namespace foretoken {

/// A microbatch of rows of T + 1 + D tokens.
struct MicrobatchInput {
  Tensor tokens;          // [B, T + 1 + D] i32
  Tensor document_start;  // [B, T + 1 + D] i32, −1 in rows that do not count
};

class Predictor {
 public:
  Predictor(const ModelConfig& config, const MtpConfig& mtp, const Parameters& parameters, Arena& arena,
            const ActivationPlan& plan);

  /// Main model and MTP modules: D + 1.
  int depths() const { return static_cast<int>(modules_.size()) + 1; }

  /// Of one microbatch in flight.
  struct Saved {
    std::vector<Tensor> raw;     // [D + 1] of [N, C]; raw[0] is the trunk's output, owned by the stage
    std::vector<Tensor> rstd;    // [D + 1] of [N]
    std::vector<Tensor> normed;  // [D + 1] of [B, T, C]
    std::vector<MtpModule::Saved> modules;
  };
  /// Of one microbatch between the two halves of backward.
  struct Gradients {
    std::vector<Tensor> draw;     // [D + 1] of [N, C]; draw[0] is the gradient of the trunk's output
    std::vector<Tensor> dnormed;  // [D + 1] of [B, T, C]
    std::vector<MtpModule::Gradients> modules;
  };
  Saved plan_saved(Arena& arena, const Tensor& trunk_output, const Block::Scratch& scratch) const;
  Gradients plan_gradients(Arena& arena, const Tensor& dtrunk_output, const Block::Scratch& scratch) const;

  void forward(const LayerContext& context, const MicrobatchInput& input, const Saved& saved) const;
  /// Its input half adds each depth's Σ loss to losses [D + 1] f64 and fills draw[0]. gradient_scales[k] =
  /// weightₖ / valid targets of depth k.
  void backward(const LayerContext& context, const MicrobatchInput& input, const Saved& saved,
                const Gradients& gradients, const Block::Scratch& scratch, Halves halves,
                std::span<const double> gradient_scales, const Tensor& losses) const;
  /// Of the microbatch last forwarded into `saved`: out [N, V] = n of that depth · headᵀ.
  void logits(const LayerContext& context, const Saved& saved, int depth, const Tensor& out) const;
  /// The losses alone.
  void evaluate(const LayerContext& context, const MicrobatchInput& input, const Saved& saved,
                const Tensor& losses) const;

 private:
  void head_loss(const LayerContext& context, const MicrobatchInput& input, const Tensor& normed, int depth,
                 double gradient_scale, const Tensor& losses, const Tensor& dnormed) const;
  void norm_backward(const LayerContext& context, const Saved& saved, const Gradients& gradients,
                     int depth) const;
  /// hᵏ⁻¹ as module k takes it.
  const Tensor& hidden_for(int depth, const Saved& saved) const;
  bool takes_normed(int depth) const;

  ModelConfig config_;
  MtpConfig mtp_;
  ActivationPlan plan_;
  std::vector<MtpModule> modules_;
  std::vector<Tensor> norm_;   // [D + 1] of [C]
  std::vector<Tensor> dnorm_;  // [D + 1] of [C]
  Tensor table_, dtable_;      // [V, C]; undefined where D = 0
  Tensor head_, dhead_;        // [V, C]
  Tensor logits_;              // [chunk, V]
};

}  // namespace foretoken
