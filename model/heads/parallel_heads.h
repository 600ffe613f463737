#pragma once
// One decoder block per depth that reads the same input x as the trunk's last block (Gloeckle et al., arXiv
// 2404.19737). In a trunk of L layers, all depths share blocks 0..L−2, block L−1 belongs to the main model,
// and depth k's hidden state is
//
//   hidden(k) = RMSNorm( Blockₖ(x); model.norm )
//
// The final norm and the output matrix are shared. Depth k's parameters are named like an ordinary layer
// L + k − 1.

#include "model/heads/heads_in_turn.h"

namespace foretoken {

class ParallelHeads : public HeadsInTurn {
 public:
  static std::vector<ParameterSpec> parameters(const ModelConfig& model, const MtpConfig& mtp,
                                               const std::string& prefix);

  explicit ParallelHeads(const HeadsPlan& plan);

  Tensor hidden(const LayerContext& context, int slot, int depth) const override;
  TrunkTensor reads() const override { return TrunkTensor::last_input; }
  std::optional<Tensor> last_input_gradient() const override { return dinput_; }

 private:
  std::optional<Tensor> head_backward(const Turn& turn) const override;
  void join(const Turn& turn, const Tensor& gradient) const override;

  double eps_;
  std::vector<Block> blocks_;  // by depth
  Tensor norm_;                // [C]
  // Unless heads are detached:
  Tensor dnorm_;                  // [C]
  std::optional<Tensor> dinput_;  // [N, C] gradient of the last block's input, summed over all depths
  // Buffers of the head that is running:
  Block::Saved saved_;
  Block::Gradients gradients_;
  Block::Scratch scratch_;
  Tensor raw_;     // [N, C]
  Tensor rstd_;    // [N]
  Tensor hidden_;  // [B, T, C]
  Tensor draw_;    // [N, C] gradient of raw_, in the memory of hidden_
};

}  // namespace foretoken
