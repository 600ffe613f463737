#pragma once
// A decoder block per depth beside the trunk's last block, on the same input x (Gloeckle et al., arXiv
// 2404.19737): with L layers, blocks 0..L−2 are shared by all depths, block L−1 is the main model's head and
//
//   hidden(k) = RMSNorm( Blockₖ(x); model.norm )
//
// depth k's, with the final norm and the output matrix shared. Names are those of a plain layer L + k − 1.

#include "model/heads/heads_in_turn.h"

namespace foretoken {

class ParallelHeads : public HeadsInTurn {
 public:
  static std::vector<ParameterSpec> parameters(const ModelConfig& model, const MtpConfig& mtp,
                                               const std::string& prefix);
  static double cost(const ModelConfig& model, const MtpConfig& mtp, double block);

  explicit ParallelHeads(const HeadsPlan& plan);

  Tensor hidden(const LayerContext& context, int slot, int depth) const override;
  Tensor TrunkTensors::*reads() const override { return &TrunkTensors::last_input; }
  Tensor last_input_gradient() const override { return dinput_; }

 private:
  Tensor head_backward(const LayerContext& context, int slot, int depth, bool first,
                       const Tensor& dhidden) const override;
  void join(const LayerContext& context, int slot, const Tensor& gradient, bool first) const override;

  double eps_;
  std::vector<Block> blocks_;  // by depth
  Tensor norm_, dnorm_;        // [C]; dnorm_ undefined where heads are detached
  Tensor dinput_;              // [N, C] over all depths; undefined where heads are detached
  // Of the head whose turn it is:
  Block::Saved saved_;
  Block::Gradients gradients_;
  Block::Scratch scratch_;
  Tensor raw_;     // [N, C]
  Tensor rstd_;    // [N]
  Tensor hidden_;  // [B, T, C]; in backward the gradient of raw_
};

}  // namespace foretoken
