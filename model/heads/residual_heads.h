#pragma once
// A small residual network per depth on the trunk's normed output n, before the shared output matrix:
//
//   mlp      u = n + e,  hidden = u + fc2 · GELU(fc1 · u)    fc1 [F, C]; e [C] is the depth's embedding
//   medusa   hidden = n + SiLU(fc1 · n)                      fc1 [C, C], initialized to zero: the head starts
//                                                            as the main model's (arXiv 2401.10774)

#include "model/heads/heads_in_turn.h"

namespace foretoken {

class ResidualHeads : public HeadsInTurn {
 public:
  static std::vector<ParameterSpec> parameters(const ModelConfig& model, const MtpConfig& mtp,
                                               const std::string& prefix);

  explicit ResidualHeads(const HeadsPlan& plan);

  Tensor hidden(const LayerContext& context, int slot, int depth) const override;

 private:
  std::optional<Tensor> head_backward(const Turn& turn) const override;

  struct Weights {
    Tensor embedding;  // [C, 1], mlp
    Tensor fc1;        // [F, C] mlp, [C, C] medusa
    Tensor fc2;        // [C, F], mlp
  };
  Weights weights(const HeadsPlan& plan, const Tensor& flat, int depth) const;
  const Weights& of(const std::vector<Weights>& all, int depth) const { return all[index(depth)]; }
  /// Input of fc1.
  const Tensor& input(int slot) const { return mlp_ ? stepped_ : at(slot).trunk.normed; }

  bool mlp_;
  std::vector<Weights> weight_, gradient_;  // by depth
  // Buffers of the head that is running:
  Tensor ones_;     // [N, 1]
  Tensor stepped_;  // [N, C] u
  Tensor inner_;    // [N, F] output of fc1; medusa: [N, C]
  Tensor active_;   // [N, F] GELU(inner_), mlp
  Tensor hidden_;   // [B, T, C]
  // Each gradient shares the memory of a tensor that is not read after the gradient is written:
  Tensor dinner_;   // gradient of inner_, in its memory
  Tensor dactive_;  // gradient of active_, in its memory
  Tensor dinput_;   // [B, T, C] gradient of fc1's input, in the memory of hidden_
};

}  // namespace foretoken
