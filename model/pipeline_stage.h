#pragma once
// One virtual stage of the pipeline: the embedding (first stage), some blocks, of which the first and the
// last may be halves, the predictor (last stage), and the buffers of the microbatches in flight on it.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model/layout.h"
#include "model/predictor.h"

namespace foretoken {

/// Everything a stage is built from.
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

  bool is_last() const { return predictor_.has_value(); }
  Tensor activation_in(int slot) const { return boundary(slots_[index(slot)].x.front()); }
  Tensor activation_out(int slot) const { return boundary(slots_[index(slot)].x.back()); }
  Tensor gradient_in(int slot) const { return boundary(slots_[index(slot)].dx.back()); }
  Tensor gradient_out(int slot) const { return boundary(slots_[index(slot)].dx.front()); }

  void forward(const LayerContext& context, const MicrobatchInput& input, int slot) const;

  /// Called with each parameter unit, by its index in Parameters::units(), when this microbatch's
  /// contribution to it is complete.
  using UnitDone = std::function<void(int unit)>;
  /// Layer by layer, so that a layer's gradients are final early.
  void backward(const LayerContext& context, const MicrobatchInput& input, int slot, Halves halves,
                std::span<const double> gradient_scales, const StepSums& sums, const UnitDone& done) const;
  /// Last stage: losses and acceptance of a forward alone.
  void evaluate(const LayerContext& context, const MicrobatchInput& input, int slot,
                const StepSums& sums) const;
  /// Last stage: Predictor::logits of the microbatch in the slot.
  void logits(const LayerContext& context, int slot, int depth, const Tensor& out) const;

 private:
  struct Slot {
    std::vector<Tensor> x;  // [blocks + 1] of [N, C]: x[j] enters block j, x.back() leaves the stage's blocks
    std::vector<Tensor> dx;  // their gradients
    std::vector<Block::Saved> blocks;
    std::vector<Block::Gradients> block_gradients;
  };
  static std::size_t index(int slot) { return static_cast<std::size_t>(slot); }
  Tensor boundary(const Tensor& x) const { return x.view({shape_.rows, shape_.length, x.shape[1]}); }
  void plan_slots(const StagePlan& plan);

  MicrobatchShape shape_;
  bool first_;
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
