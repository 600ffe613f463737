#pragma once
// The memory of the optimizer on one rank: moments of the ranges that the rank owns, and gradient norms. It
// needs no communicator, so that it can be planned without ranks.

#include <string>
#include <vector>

#include "parallel/optimizer/shard_plan.h"
#include "runtime/arena.h"

namespace foretoken {

struct OptimizerConfig {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;  // only for specs with decay
  double clip_norm = 1;       // 0: no clipping
  /// 0: one norm over all gradients. Otherwise prediction heads are clipped by the norm of their gradients,
  /// and all other parameters by the norm of theirs; the plan must then be made with heads_apart.
  double heads_clip_norm = 0;
  DType moments = DType::f32;  // dtype of both moments: f32, or bf16 (runtime/operators/parameters/adamw.h)
};

/// Throws UsageError that names the invalid value.
void validate(const OptimizerConfig& config);

/// A contiguous piece of a parameter or of one of its moments.
struct StatePiece {
  std::string kind;  // "model" for values, "exp_avg", "exp_avg_sq"
  const ParameterSpec* spec = nullptr;
  Range range;  // range of the tensor's elements in memory order
  Tensor data;  // [range.size()]
};
/// Name for messages: "model.norm.weight", "exp_avg of model.norm.weight".
std::string describe(const StatePiece& piece);

class OptimizerState {
 public:
  /// Allocates all tensors in the arena. Parameters and plan must outlive the object.
  OptimizerState(Arena& arena, const Parameters& parameters, const ShardPlan& plan,
                 const OptimizerConfig& config);

  /// Both moments of a range of the flat buffer that lies in the bucket's owned range.
  Tensor exp_avg(std::size_t bucket, const Range& range) const;
  Tensor exp_avg_sq(std::size_t bucket, const Range& range) const;
  /// f64 Σ g²: [1], or with heads_clip_norm [2]: main model, heads.
  const Tensor& sum() const { return sum_; }
  /// The factors by which gradients are multiplied, shaped like sum().
  const Tensor& clip() const { return clip_; }

  /// The state that this rank saves: over all ranks of the job every element of the model appears once.
  std::vector<StatePiece> pieces_to_save() const;
  /// The state that this rank reads to resume: all its values, and the moments that it owns.
  std::vector<StatePiece> pieces_to_load() const;

 private:
  Tensor moment(const Tensor& moments, std::size_t bucket, const Range& range) const;
  void append_moments(std::vector<StatePiece>& pieces, std::size_t bucket, const ParameterSpec& spec,
                      const Range& range) const;

  const Parameters& parameters_;
  const ShardPlan& plan_;
  std::vector<std::int64_t> begin_;  // by bucket: start of its owned range in the moments
  Tensor exp_avg_;                   // [owned elements] config.moments
  Tensor exp_avg_sq_;                // [owned elements] config.moments
  Tensor sum_;
  Tensor clip_;
};

}  // namespace foretoken
