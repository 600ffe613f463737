#include "model/heads/prediction_heads.h"

#include <algorithm>

#include "model/parameter_names.h"

namespace foretoken {

ParameterSpec own_matrix(const ModelConfig& model, const std::string& prefix) {
  return {.name = prefix + ".head.weight",
          .shape = {model.vocab_size, model.hidden_size},
          .std = model.initializer_range,
          .gradient_overwritten = true};
}

PredictionHeads::PredictionHeads(const HeadsPlan& plan, Outputs outputs)
    : detached_(plan.mtp.detach_heads),
      depths_(static_cast<int>(plan.mtp.depths)),
      range_{plan.depths.first, std::min(plan.depths.last, depths_)} {
  if (range_.empty()) return;
  if (outputs == Outputs::own) {
    for (int depth = first(); depth <= last(); ++depth) {
      const std::string name = own_matrix(plan.model, mtp_prefix(plan.model, plan.mtp, depth)).name;
      own_.push_back({.weight = plan.parameters.weight(name),
                      .gradient = plan.parameters.gradient(name),
                      .gradient_overwritten = true});
    }
    return;
  }
  shared_.weight = plan.parameters.weight(output_matrix_name(plan.model));
  if (!detached_) shared_.gradient = plan.parameters.gradient(output_matrix_name(plan.model));
}

const OutputMatrix& PredictionHeads::output(int depth) const {
  return own_.empty() ? shared_ : own_[index(depth)];
}

}  // namespace foretoken
