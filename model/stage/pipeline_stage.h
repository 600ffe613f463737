#pragma once
// One virtual stage of the pipeline: the embedding (first stage), some blocks, of which the first and the
// last may be halves, the predictor (main head, prediction heads, or both), and buffers for the microbatches
// in flight.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model/layout.h"
#include "model/stage/predictor.h"

namespace foretoken {

/// Constructor arguments of a stage.
struct StagePlan {
  Stream& stream;
  const ModelConfig& model;
  const MtpConfig& mtp;
  const ModelLayout& layout;
  const Parameters& parameters;
  Arena& arena;
  ActivationPlan activations;
  int stage;
  int slots;  // microbatches in flight
  bool frozen_trunk = false;
};

class PipelineStage {
 public:
  explicit PipelineStage(const StagePlan& plan);

  bool computes_losses() const { return predictor_.has_value(); }
  /// Indices into Parameters::units() of the units that this stage's backward contributes to.
  std::vector<int> units() const;

  // Boundary tensors of a slot. Between stages of heads they are larger if the step counts drafts or measures
  // gradients at the trunk.
  Tensor activation_in(int slot, const StepRequest& request) const;
  Tensor activation_out(int slot, const StepRequest& request) const;
  Tensor gradient_in(int slot, const StepRequest& request) const;
  Tensor gradient_out(int slot, const StepRequest& request) const;

  void forward(const StagePass& pass) const;

  /// Called with a unit's index in Parameters::units() when this microbatch's contribution to the unit's
  /// gradient is complete.
  using UnitDone = std::function<void(int unit)>;
  /// Runs one layer after another, so that a layer's gradients become final early.
  void backward(const BackwardPass& op, const UnitDone& done) const;

  /// Requires computes_losses().
  const Predictor& predictor() const { return *predictor_; }

 private:
  struct Slot {
    // [blocks + 1], each [N, C]: x[j] is the input of block j, x.back() the output of the last block. Empty
    // on stages after the main head's, whose blocks belong to the heads.
    std::vector<Tensor> x;
    std::vector<Tensor> dx;  // gradients of x
    std::vector<Block::Saved> blocks;
    std::vector<Block::Gradients> block_gradients;
    HostedHeads::Links links;
  };
  static std::size_t index(int slot) { return static_cast<std::size_t>(slot); }
  Tensor boundary(const Tensor& x) const { return x.view({shape_.rows, shape_.length, x.shape[1]}); }
  void plan_predictor(const StagePlan& plan);
  void plan_slots(const StagePlan& plan);
  /// The activation plan of a block: without FP8 for layers that stay in the activations' dtype.
  static ActivationPlan plan_of(const StagePlan& plan, const HeldBlock& block);
  HostedHeads::Links plan_links(const StagePlan& plan) const;
  void block_backward_input(const BackwardPass& op, std::size_t block) const;

  MicrobatchShape shape_;
  bool first_;
  bool after_head_;  // one of the stages that hold one depth each
  bool frozen_;
  std::vector<int> block_units_;
  std::vector<int> predictor_units_;
  int embedding_unit_ = -1;
  std::vector<Block> blocks_;
  std::optional<Predictor> predictor_;
  Tensor table_, dtable_;  // [V, C], first stage
  Block::Scratch scratch_;
  std::vector<Slot> slots_;
};

}  // namespace foretoken
