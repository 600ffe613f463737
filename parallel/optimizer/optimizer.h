#pragma once
// AdamW over this rank's parameters, with clipping by the global gradient norm. With a sharded plan each
// data-parallel rank keeps the moments of its part of every bucket and updates that part (Rajbhandari et al.,
// "ZeRO", 2020, stage 1); then the ranks gather the values.

#include <optional>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/optimizer/optimizer_state.h"
#include "runtime/stream.h"

namespace foretoken {

class Optimizer {
 public:
  /// Allocates the moments in the arena. Parameters, plan and communicators must outlive the optimizer;
  /// device_world is the group of all ranks of the job, for tensors on the parameters' device.
  Optimizer(Arena& arena, const Parameters& parameters, const ShardPlan& plan, const OptimizerConfig& config,
            Communicator& dp, Communicator& device_world);

  /// Updates values and weights. The gradients must be reduced and, for shared units, summed over all
  /// holders. `step` counts from 1. Clips by the global norm
  ///
  ///   norm = √ Σ g²,  g' = g · min(1, clip_norm / (norm + 1e-6))        (PyTorch's clip_grad_norm_)
  ///
  /// in fp64; each element of the model counts once, so replicas of shared units do not count. If a norm is
  /// not finite, no rank changes anything; the decision is made on the device. Frozen units never change and
  /// have no moments. With a sharded plan the ranks gather the weights. If weights are a separate buffer, the
  /// values of other ranks' parts are not updated.
  void step(Stream& stream, double lr, std::int64_t step);
  /// The first half of step(): computes the norms and the factors by which gradients are multiplied. `losses`
  /// are this rank's losses (f64; may be undefined): if an element is not finite on any rank, update()
  /// changes nothing.
  void measure(Stream& stream, const Tensor& losses);
  /// The second half. `step` counts updates from 1; an update that changed nothing does not count.
  void update(Stream& stream, double lr, std::int64_t step);
  /// Waits for measure() and returns the norm before clipping, the same bits on every rank; if update()
  /// changes nothing, norm() or heads_norm() is NaN or infinite. On a GPU call Transport::synchronize()
  /// first: this function would wait forever for a peer that is gone.
  double norm(Stream& stream) const;
  /// The norm of the heads' gradients; norm() then covers all other parameters. Call it after norm(). Empty
  /// if heads_clip_norm is 0.
  std::optional<double> heads_norm(Stream& stream) const;

  /// The moments and gradient norms. It also lists the tensors that a checkpoint saves and loads.
  const OptimizerState& state() const { return state_; }

  // The name of a tensor of this rank with an element that is not finite, or an empty string if all are
  // finite. The first function checks the values and the owned moments ("exp_avg of model.norm.weight"). The
  // second one checks the gradients and returns the tensor nearest the output, where backward starts. Both
  // wait for the device and overwrite norm() until the next measure().
  std::string not_finite_state(Stream& stream);
  std::string not_finite_gradient(Stream& stream);

 private:
  /// A contiguous range that this rank updates in one operator call.
  struct Segment {
    Range range;
    bool decay = false;
  };

  bool is_finite(Stream& stream, const Tensor& x);
  /// The bucket's element of sum_ or clip_.
  static Tensor norm_of(const Bucket& bucket, const Tensor& norms) {
    return norms.flat(bucket.head ? 1 : 0, 1);
  }
  const Parameters& parameters_;
  const ShardPlan& plan_;
  OptimizerConfig config_;
  Communicator& dp_;
  Communicator& device_world_;
  std::vector<std::vector<Segment>> segments_;  // by bucket
  OptimizerState state_;
  std::vector<Request> gathers_;  // by bucket
};

}  // namespace foretoken
