#include "parallel/optimizer/optimizer.h"

#include <algorithm>
#include <cmath>

#include "runtime/error.h"
#include "runtime/operators/parameters/adamw.h"
#include "runtime/operators/parameters/reductions.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/printed_nan.h"
#include "runtime/timing/timeline.h"

namespace foretoken {

namespace {

/// Calls body(spec, range) for the intersection of each tensor of a bucket with a range of the flat buffer.
template <class Body>
void for_each_spec_in(const Parameters& parameters, const Bucket& bucket, const Range& range,
                      const Body& body) {
  for (int u = bucket.first_unit; u < bucket.end_unit; ++u)
    for (const ParameterSpec& spec : parameters.units()[static_cast<std::size_t>(u)].specs) {
      const Range common = intersection({spec.offset, spec.offset + spec.shape.elements()}, range);
      if (!common.empty()) body(spec, common);
    }
}

Range within(const ParameterSpec& spec, const Range& range) {
  return {range.begin - spec.offset, range.end - spec.offset};
}

Tensor slice(const Tensor& flat, const Range& range) {
  return flat.flat(range.begin, range.size());
}

}  // namespace

std::string describe(const StatePiece& piece) {
  return piece.kind == "model" ? piece.spec->name : piece.kind + " of " + piece.spec->name;
}

void validate(const OptimizerConfig& config) {
  for (const auto& [name, beta] : {std::pair{"beta1", config.beta1}, std::pair{"beta2", config.beta2}})
    if (!(beta >= 0 && beta < 1))
      throw UsageError("optimizer: {} is {}, expected 0 ≤ {} < 1", name, beta, name);
  if (!(config.eps > 0)) throw UsageError("optimizer: eps is {}, expected more than 0", config.eps);
  if (!(config.weight_decay >= 0))
    throw UsageError("optimizer: weight_decay is {}, expected 0 or more", config.weight_decay);
  if (!(config.clip_norm >= 0))
    throw UsageError("optimizer: clip_norm is {}, expected 0 (no clipping) or more", config.clip_norm);
  if (!(config.heads_clip_norm >= 0))
    throw UsageError("optimizer: heads_clip_norm is {}, expected 0 (one norm for all) or more",
                     config.heads_clip_norm);
  if (config.moments != DType::f32 && config.moments != DType::bf16)
    throw UsageError("optimizer: the moments have dtype {}, expected f32 or bf16", name_of(config.moments));
}

Optimizer::Optimizer(Arena& arena, const Parameters& parameters, const ShardPlan& plan,
                     const OptimizerConfig& config, Communicator& dp, Communicator& device_world)
    : parameters_(parameters),
      plan_(plan),
      config_(config),
      dp_(dp),
      device_world_(device_world),
      segments_(plan.buckets.size()),
      gathers_(plan.buckets.size()) {
  validate(config);
  std::int64_t owned = 0;
  for (std::size_t b = 0; b < plan.buckets.size(); ++b) {
    const Bucket& bucket = plan.buckets[b];
    state_begin_.push_back(owned);
    if (bucket.frozen) continue;
    owned += plan.owned(bucket).size();
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
  exp_avg_ = arena.tensor(config.moments, {owned});
  exp_avg_sq_ = arena.tensor(config.moments, {owned});
  const std::int64_t norms = config.heads_clip_norm > 0 ? 2 : 1;
  sum_ = arena.tensor(DType::f64, {norms});
  clip_ = arena.tensor(DType::f64, {norms});
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
  return printed_nan(std::sqrt(read(stream, sum_.flat(0, 1))));
}

std::optional<double> Optimizer::heads_norm(Stream& stream) const {
  if (sum_.elements() == 1) return std::nullopt;
  return printed_nan(std::sqrt(read(stream, sum_.flat(1, 1))));
}

bool Optimizer::is_finite(Stream& stream, const Tensor& x) {
  const Tensor sum = sum_.flat(0, 1);
  set_zero(stream, sum);
  sum_of_squares(stream, {x, sum});
  return std::isfinite(read(stream, sum));
}

std::string Optimizer::not_finite_state(Stream& stream) {
  for (const StatePiece& piece : pieces_to_load())
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
    set_zero(stream, sum_);
    for (const Bucket& bucket : plan_.buckets)
      if (bucket.canonical && !bucket.frozen)
        sum_of_squares(stream, {slice(parameters_.gradients(), plan_.part(bucket)), norm_of(bucket, sum_)});
    if (losses.defined()) mark_not_finite(stream, {.x = losses, .sum = sum_.flat(0, 1)});
  }
  device_world_.all_reduce(sum_);
  const double limits[] = {config_.clip_norm, config_.heads_clip_norm};
  for (std::int64_t i = 0; i < sum_.elements(); ++i) {
    clip_scale(stream, {.sum = sum_.flat(i, 1), .limit = limits[i], .scale = clip_.flat(i, 1)});
    mark_not_finite(stream, {.x = sum_, .sum = clip_.flat(i, 1)});
  }
}

void Optimizer::update(Stream& stream, double lr, std::int64_t step) {
  const bool gathers = plan_.sharded && plan_.dp > 1;
  for (std::size_t b = 0; b < plan_.buckets.size(); ++b) {
    const TimelineScope scope(stream, "adamw");
    const Bucket& bucket = plan_.buckets[b];
    for (const Segment& segment : segments_[b]) {
      const Range state = state_of(b, segment.range);
      adamw(stream,
            {.values = slice(parameters_.values(), segment.range),
             .gradients = slice(parameters_.gradients(), segment.range),
             .exp_avg = slice(exp_avg_, state),
             .exp_avg_sq = slice(exp_avg_sq_, state),
             .weights =
                 parameters_.has_rounded_weights() ? slice(parameters_.weights(), segment.range) : Tensor{},
             .gradient_scale = norm_of(bucket, clip_),
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

Range Optimizer::state_of(std::size_t bucket, const Range& range) const {
  const std::int64_t shift = state_begin_[bucket] - plan_.owned(plan_.buckets[bucket]).begin;
  return {range.begin + shift, range.end + shift};
}

void Optimizer::append_moments(std::vector<StatePiece>& pieces, std::size_t bucket, const ParameterSpec& spec,
                               const Range& range) const {
  const Range state = state_of(bucket, range);
  pieces.push_back({"exp_avg", &spec, within(spec, range), slice(exp_avg_, state)});
  pieces.push_back({"exp_avg_sq", &spec, within(spec, range), slice(exp_avg_sq_, state)});
}

std::vector<StatePiece> Optimizer::pieces_to_save() const {
  std::vector<StatePiece> pieces;
  for (std::size_t b = 0; b < plan_.buckets.size(); ++b) {
    const Bucket& bucket = plan_.buckets[b];
    if (!bucket.canonical) continue;
    for_each_spec_in(
        parameters_, bucket, plan_.part(bucket), [&](const ParameterSpec& spec, const Range& range) {
          pieces.push_back({"model", &spec, within(spec, range), slice(parameters_.values(), range)});
          if (!bucket.frozen) append_moments(pieces, b, spec, range);
        });
  }
  return pieces;
}

std::vector<StatePiece> Optimizer::pieces_to_load() const {
  std::vector<StatePiece> pieces;
  for (std::size_t b = 0; b < plan_.buckets.size(); ++b) {
    const Bucket& bucket = plan_.buckets[b];
    for_each_spec_in(parameters_, bucket, bucket.range, [&](const ParameterSpec& spec, const Range& range) {
      pieces.push_back({"model", &spec, within(spec, range), slice(parameters_.values(), range)});
    });
    if (bucket.frozen) continue;
    for_each_spec_in(
        parameters_, bucket, plan_.owned(bucket),
        [&](const ParameterSpec& spec, const Range& range) { append_moments(pieces, b, spec, range); });
  }
  return pieces;
}

}  // namespace foretoken
