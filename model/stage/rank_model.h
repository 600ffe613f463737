#pragma once
// The part of the model that one rank computes: its virtual stages, their parameters and all memory of a
// step. It implements StageWork, which the pipeline executor calls.

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "model/layers/rope_tables.h"
#include "model/stage/pipeline_stage.h"
#include "parallel/pipeline/stage_work.h"

namespace foretoken {

struct RankModelOptions {
  ModelConfig model;
  MtpConfig mtp;
  ModelLayout layout;
  int pp_rank = 0;
  MicrobatchShape shape;
  DType values = DType::f32;       // dtype of parameters and gradients
  DType activations = DType::f32;  // dtype of activations and of the weights that layers compute with
  std::optional<Fp8Config> fp8;    // set if a training step's products of blocks and modules run in FP8
  Recompute recompute = Recompute::none;
  int microbatches = 1;         // maximum per step on this rank
  std::vector<int> slots;       // by stage of the model: microbatches in flight (ProgramFootprint::slots)
  bool split_backward = false;  // the program has I and W actions
  bool attention_across_documents = false;
  bool frozen_trunk = false;  // only the heads are trained; they must be detached
};

/// The rank's parameters, in units that a data-parallel group splits evenly. With a counting arena nothing is
/// allocated.
Parameters plan_parameters(Arena& arena, const RankModelOptions& options);

class RankModel : public StageWork {
 public:
  /// Takes all memory of the rank's steps from the arena. With a counting arena no step can run.
  RankModel(Stream& stream, Arena arena, const RankModelOptions& options);
  RankModel(Stream& stream, const RankModelOptions& options)
      : RankModel(stream, Arena(stream.device()), options) {}

  Parameters& parameters() { return *parameters_; }
  const Parameters& parameters() const { return *parameters_; }
  /// The memory of all buffers of the device: parameters, gradients, activations, inputs.
  const Arena& memory() const { return arena_; }
  /// Whether the main head is on this rank.
  bool has_main_head() const { return holds(options_.layout.head_stage()); }
  /// Whether this rank computes the loss of any depth.
  bool computes_losses() const;

  struct Step {
    StepRequest request;
    std::span<const MicrobatchInput> microbatches;  // tensors on the host, of the planned shape
    /// [D + 1] weightₖ / valid targets of depth k in the global batch; read if gradients are requested.
    std::vector<double> gradient_scales;
    /// Called with a unit's index in parameters().units() when its gradient on this rank is final.
    std::function<void(int unit)> unit_final = [](int) {};
  };
  /// The request of a training step that also measures all that this model can measure about its heads.
  StepRequest diagnosis() const;
  /// Must be called before the program of a step runs. If the step requests gradients, this function zeroes
  /// the previous step's gradients, or the step's first contribution overwrites them. Throws a DefectError if
  /// the request has trunk_gradients without gradients, or for a model that does not measure them
  /// (measures_gradients()).
  void begin_step(Step step);
  /// Sums over this rank's microbatches, on the stream's device. Entries that other ranks compute, and those
  /// that the step does not request, are zero.
  const StepSums& sums() const { return sums_; }
  struct Logits {
    int depth = 0;
    int microbatch = 0;  // the one that forward() ran last in the slot
    int slot = 0;
    Tensor out;  // [N, V] =
  };
  /// Writes a depth's logits, on the rank of the depth's stage.
  void logits(const Logits& op);

  Tensor activation_in(const InFlight& at) override {
    return stage(at).activation_in(at.slot, step_.request);
  }
  Tensor activation_out(const InFlight& at) override {
    return stage(at).activation_out(at.slot, step_.request);
  }
  Tensor gradient_in(const InFlight& at) override { return stage(at).gradient_in(at.slot, step_.request); }
  Tensor gradient_out(const InFlight& at) override { return stage(at).gradient_out(at.slot, step_.request); }
  void forward(const InFlight& at) override;
  void backward(const InFlight& at) override;
  void backward_input(const InFlight& at) override;
  void backward_weight(const InFlight& at) override;

 private:
  std::size_t index_of(int stage) const;
  bool holds(int stage) const { return std::find(stages_.begin(), stages_.end(), stage) != stages_.end(); }
  PipelineStage& stage(const InFlight& at) { return compute_[index_of(at.stage)]; }
  LayerContext context(const MicrobatchInput& input) const;
  const MicrobatchInput& input(int microbatch) const {
    return step_.microbatches[static_cast<std::size_t>(microbatch)];
  }
  StagePass pass(const InFlight& at) const;
  /// Whether a step with gradients counts accepted drafts in forward. Otherwise it counts them in backward.
  bool counts_in_forward() const;
  void run_backward(const InFlight& at, Halves halves);
  void plan_inputs();
  void zero_gradients();
  void upload(std::span<const MicrobatchInput> microbatches);

  Stream& stream_;
  RankModelOptions options_;
  Arena arena_;
  std::unique_ptr<Parameters> parameters_;
  std::optional<Fp8Products> fp8_;
  RopeTables rope_;
  std::vector<int> stages_;  // ascending
  std::vector<PipelineStage> compute_;
  std::vector<Halves> halves_run_;  // by stage: halves that have run in this step
  Step step_;
  bool sampled_ = false;  // some microbatch of the step does not train all depths
  StepSums sums_;
  // GPU only: the step's microbatches on the device, and in the page-locked memory that they are copied from.
  Arena input_arena_;
  std::vector<MicrobatchInput> inputs_;
  std::vector<MicrobatchInput> host_inputs_;
  std::vector<int> contributions_;  // by unit: number of contributions to its gradient per microbatch
  std::vector<int> remaining_;      // by unit: contributions that this step has not made yet
};

}  // namespace foretoken
