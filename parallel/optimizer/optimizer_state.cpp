#include "parallel/optimizer/optimizer_state.h"

#include "parallel/optimizer/bucket_specs.h"
#include "runtime/error.h"

namespace foretoken {

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

OptimizerState::OptimizerState(Arena& arena, const Parameters& parameters, const ShardPlan& plan,
                               const OptimizerConfig& config)
    : parameters_(parameters), plan_(plan) {
  validate(config);
  std::int64_t owned = 0;
  for (const Bucket& bucket : plan.buckets) {
    begin_.push_back(owned);
    if (!bucket.frozen) owned += plan.owned(bucket).size();
  }
  exp_avg_ = arena.tensor(config.moments, {owned}, MemoryKind::optimizer);
  exp_avg_sq_ = arena.tensor(config.moments, {owned}, MemoryKind::optimizer);
  const std::int64_t norms = config.heads_clip_norm > 0 ? 2 : 1;
  sum_ = arena.tensor(DType::f64, {norms}, MemoryKind::optimizer);
  clip_ = arena.tensor(DType::f64, {norms}, MemoryKind::optimizer);
}

Tensor OptimizerState::moment(const Tensor& moments, std::size_t bucket, const Range& range) const {
  const std::int64_t shift = begin_[bucket] - plan_.owned(plan_.buckets[bucket]).begin;
  return slice(moments, {range.begin + shift, range.end + shift});
}

Tensor OptimizerState::exp_avg(std::size_t bucket, const Range& range) const {
  return moment(exp_avg_, bucket, range);
}

Tensor OptimizerState::exp_avg_sq(std::size_t bucket, const Range& range) const {
  return moment(exp_avg_sq_, bucket, range);
}

void OptimizerState::append_moments(std::vector<StatePiece>& pieces, std::size_t bucket,
                                    const ParameterSpec& spec, const Range& range) const {
  pieces.push_back({"exp_avg", &spec, within(spec, range), exp_avg(bucket, range)});
  pieces.push_back({"exp_avg_sq", &spec, within(spec, range), exp_avg_sq(bucket, range)});
}

std::vector<StatePiece> OptimizerState::pieces_to_save() const {
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

std::vector<StatePiece> OptimizerState::pieces_to_load() const {
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
