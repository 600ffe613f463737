#include "launch/training/gradient_pass.h"

#include "launch/session/evaluation.h"
#include "runtime/printed_nan.h"
#include "runtime/timing/nvtx.h"
#include "runtime/timing/timeline.h"

namespace foretoken {

/// Advances gradient reductions and the exchange of shared weights between the pipeline's actions, and
/// records the actions if there is a timeline.
class GradientPass::Overlap : public ActionObserver {
 public:
  Overlap(Stream& stream, GradientReducer& reducer, SharedWeights& shared)
      : stream_(stream), reducer_(reducer), shared_(shared) {}
  void on_action_start(const Action& action, Time) override {
    if constexpr (with_cuda)
      if (stream_.nvtx()) push_nvtx(to_string(action).c_str());
    if (Timeline* timeline = timeline_of(action)) span_ = timeline->begin(to_string(action));
  }
  void on_action_done(const Action& action, Time, Time) override {
    if (Timeline* timeline = timeline_of(action)) timeline->end(span_);
    if constexpr (with_cuda)
      if (stream_.nvtx()) pop_nvtx();
    reducer_.progress();
    shared_.progress();
  }

 private:
  /// Messages are recorded by the communicator that runs them.
  Timeline* timeline_of(const Action& action) const {
    return is_compute(action.kind) ? stream_.timeline() : nullptr;
  }

  Stream& stream_;
  std::size_t span_ = 0;
  GradientReducer& reducer_;
  SharedWeights& shared_;
};

GradientPass::GradientPass(Session& session, GradientReducer& reducer, SharedWeights& shared)
    : session_(session),
      reducer_(reducer),
      shared_(shared),
      overlap_(std::make_unique<Overlap>(session.stream(), reducer, shared)),
      executor_(session.training().program, session.training().footprint, session.model(),
                *session.groups().pipeline, session.stream(), overlap_.get()) {
  const Config& config = session.config();
  if (config.mtp.balance == MtpConfig::Balance::sampling) sampler_.emplace(config.mtp, config.train.seed);
}

GradientPass::~GradientPass() = default;

void GradientPass::prepare(std::span<const Batch> batches, std::int64_t sample) {
  const Config& config = session_.config();
  const RankModel& model = session_.model();
  const BatchLayout layout = batch_layout(config, session_.groups());
  inputs_.clear();
  counts_.all.assign(session_.objective().weights().size(), 0);
  counts_.trained = counts_.all;
  for (const Batch& batch : batches) {
    MicrobatchInput& input = inputs_.emplace_back(input_of(batch));
    const std::int64_t m = std::ssize(inputs_) - 1;
    if (sampler_) input.depths = sampler_->draw(sample + (m * layout.dp + layout.dp_rank) * layout.rows);
    if (!model.computes_losses()) continue;
    std::vector<std::int64_t> of_batch(counts_.all.size());
    add_target_counts(input, config.data.sequence_length, of_batch);
    for (std::size_t k = 0; k < of_batch.size(); ++k) {
      counts_.all[k] += of_batch[k];
      if (input.depths.has(static_cast<int>(k))) counts_.trained[k] += of_batch[k];
    }
  }
  std::vector<std::int64_t> global = counts_.all;
  session_.sum_target_counts(global);
  scales_ = session_.objective().gradient_scales(global);
  if (model.has_main_head()) return;
  counts_.all.assign(counts_.all.size(), 0);
  counts_.trained = counts_.all;
}

void GradientPass::execute(std::span<const MicrobatchInput> inputs, std::vector<double> scales, bool diagnose,
                           bool reduce) {
  RankModel& model = session_.model();
  model.begin_step({.request = diagnose ? model.diagnosis() : StepRequest::training(),
                    .microbatches = inputs,
                    .gradient_scales = std::move(scales),
                    .unit_final = [this, reduce](int unit) {
                      if (reduce) reducer_.unit_ready(unit);
                    }});
  executor_.run();
  if (!reduce) return;
  const NvtxRange range(session_.stream(), "reduce");
  reducer_.finish();
  shared_.finish();
}

void GradientPass::run(bool diagnose) {
  std::vector<double> scales = scales_;
  if (sampler_) sampler_->weigh(scales);
  execute(inputs_, std::move(scales), diagnose, true);
}

std::vector<double> GradientPass::measure() {
  std::vector<MicrobatchInput> inputs = inputs_;
  for (MicrobatchInput& input : inputs) input.depths = DepthSet::all();
  execute(inputs, scales_, true, false);
  return session_.read_sums();
}

Objective::Losses GradientPass::losses(std::span<const double> sums, const Counts& global) const {
  const Objective& objective = session_.objective();
  Objective::Losses losses = objective.losses(sums, global.trained);
  if (!sampler_) return losses;
  std::vector<double> scales = objective.gradient_scales(global.all);
  sampler_->weigh(scales);
  losses.total = 0;
  for (std::size_t k = 0; k < scales.size(); ++k) losses.total += scales[k] * sums[k];
  losses.total = printed_nan(losses.total);
  return losses;
}

}  // namespace foretoken
