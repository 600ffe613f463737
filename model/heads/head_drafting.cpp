#include "model/heads/head_drafting.h"

#include "model/parameter_names.h"

namespace foretoken {

CachedDepth make_cached_depth(const DraftingPlan& plan, int depth, const std::string& norm,
                              StateCache::Kept kept) {
  const ModelConfig& model = plan.model;
  return {.block = {model, plan.parameters, mtp_prefix(model, plan.mtp, depth), plan.cache},
          .states = {SlotCache(plan.cache, model.hidden_size), plan.parameters.weight(norm),
                     model.rms_norm_eps, kept}};
}

}  // namespace foretoken
