#include "model/heads/linear_heads.h"

namespace foretoken {

std::vector<ParameterSpec> LinearHeads::parameters(const ModelConfig& model, const MtpConfig&,
                                                   const std::string& prefix) {
  return {own_matrix(model, prefix)};
}

LinearHeads::LinearHeads(const HeadsPlan& plan) : HeadsInTurn(plan, Outputs::own, !plan.mtp.detach_heads) {}

Tensor LinearHeads::hidden(const LayerContext&, int slot, int) const {
  return at(slot).trunk.normed;
}

std::optional<Tensor> LinearHeads::head_backward(const Turn&) const {
  if (detached_) return std::nullopt;
  return dhidden();
}

}  // namespace foretoken
