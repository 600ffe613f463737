#include "model/heads/linear_heads.h"

#include "model/layout.h"

namespace foretoken {

std::vector<ParameterSpec> LinearHeads::parameters(const ModelConfig& model, const MtpConfig&,
                                                   const std::string& prefix) {
  return {{.name = prefix + ".head.weight",
           .shape = {model.vocab_size, model.hidden_size},
           .std = model.initializer_range,
           .gradient_overwritten = true}};
}

double LinearHeads::cost(const ModelConfig&, const MtpConfig&, double) {
  return 0;
}

LinearHeads::LinearHeads(const HeadsPlan& plan) : HeadsInTurn(plan) {
  for (int depth = first(); depth <= last(); ++depth) {
    const std::string name = mtp_prefix(plan.model, plan.mtp, depth) + ".head.weight";
    matrices_.push_back(
        {.weight = plan.parameters.weight(name), .gradient = plan.parameters.gradient(name), .begins = true});
  }
  if (detached_) dhidden_ = {};
}

Tensor LinearHeads::hidden(const LayerContext&, int slot, int) const {
  return at(slot).trunk.normed;
}

OutputMatrix LinearHeads::output(int depth) const {
  return matrices_[index(depth)];
}

Tensor LinearHeads::head_backward(const LayerContext&, int, int, bool, const Tensor& dhidden) const {
  return dhidden;
}

}  // namespace foretoken
