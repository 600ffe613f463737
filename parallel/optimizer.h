#pragma once
// AdamW over this rank's parameters, with clipping by the global gradient norm. With a sharded plan each
// data-parallel rank keeps the moments of, and updates, its part of every bucket (Rajbhandari et al., "ZeRO",
// 2020, stage 1), then the values are gathered.

#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/shard_plan.h"
#include "runtime/stream.h"

namespace foretoken {

struct OptimizerConfig {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;  // only of specs with decay
  double clip_norm = 1;       // 0: no clipping
};

/// A UsageError naming the value that makes no sense.
void validate(const OptimizerConfig& config);

/// A contiguous piece of a parameter or of one of its moments.
struct StatePiece {
  std::string kind;  // "model" for values, "exp_avg", "exp_avg_sq"
  const ParameterSpec* spec = nullptr;
  Range range;  // of the tensor's elements in memory order
  Tensor data;  // [range.size()]
};

class Optimizer {
 public:
  /// Takes the moments from the arena. Parameters, plan and communicators must outlive it; the world is all
  /// ranks of the job.
  Optimizer(Arena& arena, const Parameters& parameters, const ShardPlan& plan, const OptimizerConfig& config,
            Communicator& dp, Communicator& world);

  /// Updates the values from gradients that are reduced and, of shared units, summed over both sides. Returns
  /// the global norm before clipping, the same bits on every rank:
  ///
  ///   norm = √ Σ g²,  g' = g · min(1, clip_norm / (norm + 1e-6))        (PyTorch's clip_grad_norm_)
  ///
  /// in fp64, over every element of the model once: replicas of shared units do not count. `step` counts from
  /// 1. A NumericalError on all ranks, before any value changes, where the norm is not finite.
  double step(Stream& stream, double lr, std::int64_t step);

  /// This rank's share of a checkpoint: over all ranks of the job every element of the model comes once.
  std::vector<StatePiece> pieces_to_save() const;
  /// What this rank must be given to resume: all its values, and the moments that it owns.
  std::vector<StatePiece> pieces_to_load() const;

 private:
  /// Neighbours in the buffer that this rank updates by one operator call.
  struct Segment {
    Range range;
    bool decay = false;
  };

  double global_norm(Stream& stream) const;
  [[noreturn]] void throw_not_finite(Stream& stream, double norm, std::int64_t step) const;
  Range state_of(std::size_t bucket, const Range& range) const;
  void append_moments(std::vector<StatePiece>& pieces, std::size_t bucket, const ParameterSpec& spec,
                      const Range& range) const;

  const Parameters& parameters_;
  const ShardPlan& plan_;
  OptimizerConfig config_;
  Communicator& dp_;
  Communicator& world_;
  std::vector<std::vector<Segment>> segments_;  // by bucket
  std::vector<std::int64_t> state_begin_;       // by bucket: where its owned range lies in the moments
  Tensor exp_avg_;                              // [owned elements]
  Tensor exp_avg_sq_;                           // [owned elements]
  std::vector<Request> gathers_;                // by bucket
};

}  // namespace foretoken
