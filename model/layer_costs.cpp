#include "model/layer_costs.h"

#include "model/cost.h"
#include "model/heads/head_facts.h"

namespace foretoken {

namespace {

class StepCosts {
 public:
  StepCosts(const ModelConfig& model, const MtpConfig& mtp, const StepWork& work)
      : model_(model),
        mtp_(mtp),
        work_(work),
        kind_(head_facts(mtp.kind)),
        time_(time_of(model, work.sequence_length)),
        recomputed_(work.recompute == Recompute::full ? 1 : 0) {}

  const ModelCost& time() const { return time_; }

  StageDurations half(double forward) const {
    return work_.trains && !work_.frozen_trunk ? trained(forward, recomputed_) : StageDurations{forward};
  }

  /// Cost of the main model's output head.
  StageDurations main_head() const { return output(time_.head, work_.frozen_trunk ? 1 : 3); }

  /// Cost of depth k with its output matrix.
  StageDurations depth(std::int64_t k) const {
    ModelCost without = time_;
    without.head = 0;
    const double head = depth_cost(model_, mtp_, without, k);
    const double matrix = depth_cost(model_, mtp_, time_, k) - head;
    // Detached heads give the trunk no gradient, nor an output matrix that they share with the main model.
    const bool leaves_out = (mtp_.detach_heads || work_.frozen_trunk) && !mtp_.own_output;
    const StageDurations logits = output(matrix, leaves_out ? 2 : 3);
    if (!work_.trains) return StageDurations{head} + logits;
    const StageDurations own = trained(head, kind_.has_block ? recomputed_ : 0);
    return logits + (kind_.in_turn ? StageDurations{0, own.total(), 0} : own);
  }

 private:
  static StageDurations trained(double forward, double recomputed) {
    return {forward, (1 + recomputed) * forward, forward};
  }
  StageDurations output(double product, double products) const {
    return work_.trains ? StageDurations{0, products * product, 0} : StageDurations{product};
  }

  const ModelConfig& model_;
  const MtpConfig& mtp_;
  const StepWork& work_;
  const HeadFacts& kind_;
  ModelCost time_;
  double recomputed_;  // number of forwards that backward repeats
};

}  // namespace

LayerCosts layer_costs(const ModelConfig& model, const MtpConfig& mtp, const StepWork& work) {
  const StepCosts step(model, mtp, work);
  LayerCosts costs;
  for (std::int64_t layer = 0; layer < model.num_hidden_layers; ++layer)
    costs.halves.insert(costs.halves.end(), {step.half(step.time().attention), step.half(step.time().mlp)});
  costs.last = step.main_head();
  for (std::int64_t depth = 1; depth <= mtp.depths; ++depth) {
    if (mtp.placement == MtpConfig::Placement::stage_per_depth)
      costs.after.push_back(step.depth(depth));
    else
      costs.last += step.depth(depth);
  }
  // Parallel heads read the input of the trunk's last layer, so that layer must be on their stage.
  costs.fewest_on_last = mtp.depths > 0 && head_facts(mtp.kind).reads_last_input ? 2 : 0;
  costs.last_apart = mtp.placement == MtpConfig::Placement::own_stage;
  return costs;
}

}  // namespace foretoken
