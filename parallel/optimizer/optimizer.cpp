#include "parallel/optimizer/optimizer.h"

#include <algorithm>
#include <cmath>

#include "parallel/optimizer/bucket_specs.h"
#include "runtime/operators/parameters/adamw.h"
#include "runtime/operators/parameters/reductions.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/printed_nan.h"
#include "runtime/timing/timeline.h"

namespace foretoken {

Optimizer::Optimizer(Arena& arena, const Parameters& parameters, const ShardPlan& plan,
                     const OptimizerConfig& config, Communicator& dp, Communicator& device_world)
    : parameters_(parameters),
      plan_(plan),
      config_(config),
      dp_(dp),
      device_world_(device_world),
      segments_(plan.buckets.size()),
      state_(arena, parameters, plan, config),
      gathers_(plan.buckets.size()) {
  for (std::size_t b = 0; b < plan.buckets.size(); ++b) {
    const Bucket& bucket = plan.buckets[b];
    if (bucket.frozen) continue;
    for_each_spec_in(parameters, bucket, plan.owned(bucket),
                     [&](const ParameterSpec& spec, const Range& range) {
                       std::vector<Segment>& segments = segments_[b];
                       if (!segments.empty() && segments.back().range.end == range.begin &&
                           segments.back().decay == spec.decay)
                         segments.back().range.end = range.end;
                       else
                         segments.push_back({range, spec.decay});
                     });
  }
}

namespace {

double read(Stream& stream, const Tensor& scalar) {
  double value = 0;
  copy(stream, scalar, tensor_over(std::span(&value, 1), {1}));
  stream.synchronize();
  return value;
}

}  // namespace

double Optimizer::norm(Stream& stream) const {
  return printed_nan(std::sqrt(read(stream, state_.sum().flat(0, 1))));
}

std::optional<double> Optimizer::heads_norm(Stream& stream) const {
  if (state_.sum().elements() == 1) return std::nullopt;
  return printed_nan(std::sqrt(read(stream, state_.sum().flat(1, 1))));
}

bool Optimizer::is_finite(Stream& stream, const Tensor& x) {
  const Tensor sum = state_.sum().flat(0, 1);
  set_zero(stream, sum);
  sum_of_squares(stream, {x, sum});
  return std::isfinite(read(stream, sum));
}

std::string Optimizer::not_finite_state(Stream& stream) {
  for (const StatePiece& piece : state_.pieces_to_load())
    if (!is_finite(stream, piece.data)) return describe(piece);
  return {};
}

std::string Optimizer::not_finite_gradient(Stream& stream) {
  const ParameterSpec* last = nullptr;  // offsets follow the model's order
  for (const Bucket& bucket : plan_.buckets) {
    if (bucket.frozen) continue;
    for_each_spec_in(parameters_, bucket, plan_.part(bucket),
                     [&](const ParameterSpec& spec, const Range& range) {
                       if (last && spec.offset < last->offset) return;
                       if (!is_finite(stream, slice(parameters_.gradients(), range))) last = &spec;
                     });
  }
  return last ? last->name : "";
}

void Optimizer::step(Stream& stream, double lr, std::int64_t step) {
  measure(stream, {});
  update(stream, lr, step);
}

void Optimizer::measure(Stream& stream, const Tensor& losses) {
  {
    const TimelineScope scope(stream, "gradient norm");
    set_zero(stream, state_.sum());
    for (const Bucket& bucket : plan_.buckets)
      if (bucket.canonical && !bucket.frozen)
        sum_of_squares(stream,
                       {slice(parameters_.gradients(), plan_.part(bucket)), norm_of(bucket, state_.sum())});
    if (losses.defined()) mark_not_finite(stream, {.x = losses, .sum = state_.sum().flat(0, 1)});
  }
  device_world_.all_reduce(state_.sum());
  const double limits[] = {config_.clip_norm, config_.heads_clip_norm};
  for (std::int64_t i = 0; i < state_.sum().elements(); ++i) {
    clip_scale(stream,
               {.sum = state_.sum().flat(i, 1), .limit = limits[i], .scale = state_.clip().flat(i, 1)});
    mark_not_finite(stream, {.x = state_.sum(), .sum = state_.clip().flat(i, 1)});
  }
}

void Optimizer::update(Stream& stream, double lr, std::int64_t step) {
  const bool gathers = plan_.sharded && plan_.dp > 1;
  for (std::size_t b = 0; b < plan_.buckets.size(); ++b) {
    const TimelineScope scope(stream, "adamw");
    const Bucket& bucket = plan_.buckets[b];
    for (const Segment& segment : segments_[b]) {
      adamw(stream,
            {.values = slice(parameters_.values(), segment.range),
             .gradients = slice(parameters_.gradients(), segment.range),
             .exp_avg = state_.exp_avg(b, segment.range),
             .exp_avg_sq = state_.exp_avg_sq(b, segment.range),
             .weights =
                 parameters_.has_rounded_weights() ? slice(parameters_.weights(), segment.range) : Tensor{},
             .gradient_scale = norm_of(bucket, state_.clip()),
             .lr = lr,
             .beta1 = config_.beta1,
             .beta2 = config_.beta2,
             .eps = config_.eps,
             .weight_decay = segment.decay ? config_.weight_decay : 0,
             .step = step});
    }
    if (!gathers || bucket.frozen) continue;
    gathers_[b] = dp_.start_all_gather(slice(parameters_.weights(), plan_.part(bucket)),
                                       slice(parameters_.weights(), bucket.range));
    for (std::size_t before = 0; before < b; ++before) gathers_[before].test();
  }
  for (Request& gather : gathers_) gather.wait();
}

}  // namespace foretoken
