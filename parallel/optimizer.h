#pragma once
// AdamW over this rank's parameters, with clipping by the global gradient norm. With a sharded plan each
// data-parallel rank keeps the moments of, and updates, its part of every bucket (Rajbhandari et al., "ZeRO",
// 2020, stage 1), then the values are gathered.

#include <optional>
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
  /// 0: one norm over all. Else prediction heads are clipped by their own norm and all others by theirs; the
  /// plan then has heads apart.
  double heads_clip_norm = 0;
  DType moments = DType::f32;  // of both moments: f32, or bf16 (runtime/operators/adamw.h)
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
/// "model.norm.weight", "exp_avg of model.norm.weight": for messages.
std::string describe(const StatePiece& piece);

class Optimizer {
 public:
  /// Takes the moments from the arena. Parameters, plan and communicators must outlive it; device_world is
  /// all ranks of the job, for tensors of the parameters' device.
  Optimizer(Arena& arena, const Parameters& parameters, const ShardPlan& plan, const OptimizerConfig& config,
            Communicator& dp, Communicator& device_world);

  /// Updates the values, and the weights, from gradients that are reduced and, of shared units, summed over
  /// both sides. `step` counts from 1. Clips by the global norm
  ///
  ///   norm = √ Σ g²,  g' = g · min(1, clip_norm / (norm + 1e-6))        (PyTorch's clip_grad_norm_)
  ///
  /// in fp64, over every element of the model once: replicas of shared units do not count. Where a norm is
  /// not finite nothing changes, on any rank: the decision is made on the device. Frozen units never change,
  /// and have no moments. With a sharded plan the weights are gathered; the values of other ranks' parts are
  /// then those of before where weights are a buffer of their own.
  void step(Stream& stream, double lr, std::int64_t step);
  /// The first half of step(): the norms, and what gradients are multiplied with. Where an element of
  /// `losses` (f64, this rank's; may be undefined) is not finite on any rank, update() changes nothing
  /// either.
  void measure(Stream& stream, const Tensor& losses);
  /// The second half. `step` counts updates from 1: one that changed nothing does not count.
  void update(Stream& stream, double lr, std::int64_t step);
  /// Waits for measure() and returns the norm before clipping, the same bits on every rank; NaN or infinite
  /// where update() changes nothing. On a GPU Transport::synchronize() comes first: this wait would have no
  /// end where a peer is gone.
  double norm(Stream& stream) const;
  /// The heads' norm, after norm(), which then is that of all others; nothing where they have none of their
  /// own.
  std::optional<double> heads_norm(Stream& stream) const;

  /// This rank's share of a checkpoint: over all ranks of the job every element of the model comes once.
  std::vector<StatePiece> pieces_to_save() const;
  /// What this rank must be given to resume: all its values, and the moments that it owns.
  std::vector<StatePiece> pieces_to_load() const;

  /// The first tensor of this rank that holds a number that is not finite: a value, a moment that it owns, or
  /// a gradient ("exp_avg of model.norm.weight"); empty where there is none. Waits. Of gradients the tensor
  /// nearest the output, where backward begins. After it norm() is undefined until the next measure().
  std::string not_finite_state(Stream& stream);
  std::string not_finite_gradient(Stream& stream);

 private:
  /// Neighbours in the buffer that this rank updates by one operator call.
  struct Segment {
    Range range;
    bool decay = false;
  };

  bool is_finite(Stream& stream, const Tensor& x);
  /// The bucket's part of sum_ or clip_.
  static Tensor norm_of(const Bucket& bucket, const Tensor& norms) {
    return norms.flat(bucket.head ? 1 : 0, 1);
  }
  Range state_of(std::size_t bucket, const Range& range) const;
  void append_moments(std::vector<StatePiece>& pieces, std::size_t bucket, const ParameterSpec& spec,
                      const Range& range) const;

  const Parameters& parameters_;
  const ShardPlan& plan_;
  OptimizerConfig config_;
  Communicator& dp_;
  Communicator& device_world_;
  std::vector<std::vector<Segment>> segments_;  // by bucket
  std::vector<std::int64_t> state_begin_;       // by bucket: where its owned range lies in the moments
  Tensor exp_avg_;                              // [owned elements] config.moments
  Tensor exp_avg_sq_;                           // [owned elements] config.moments
  Tensor sum_;                                  // [1] f64, Σ g²; [2] where heads are apart: others, heads
  Tensor clip_;                                 // likewise
  std::vector<Request> gathers_;                // by bucket
};

}  // namespace foretoken
