#pragma once
// Heads of one output matrix per depth, applied to the trunk's normed output n: logitsᵏ = n · Wₖᵀ.

#include "model/heads/heads_in_turn.h"

namespace foretoken {

class LinearHeads : public HeadsInTurn {
 public:
  static std::vector<ParameterSpec> parameters(const ModelConfig& model, const MtpConfig& mtp,
                                               const std::string& prefix);

  explicit LinearHeads(const HeadsPlan& plan);

  Tensor hidden(const LayerContext& context, int slot, int depth) const override;

 private:
  std::optional<Tensor> head_backward(const Turn& turn) const override;
};

}  // namespace foretoken
