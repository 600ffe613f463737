#pragma once
// The part of the model that one rank computes: its virtual stages, their parameters and all memory of a
// step, behind the interface that the pipeline executor drives.

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "model/pipeline_stage.h"
#include "model/rope_tables.h"
#include "parallel/stage_work.h"

namespace foretoken {

struct RankModelOptions {
  ModelConfig model;
  MtpConfig mtp;
  ModelLayout layout;
  int pp_rank = 0;
  MicrobatchShape shape;
  DType values = DType::f32;       // of parameters and gradients
  DType activations = DType::f32;  // of activations and of the weights that layers compute with
  std::optional<Fp8Config> fp8;    // where a training step's products of blocks and modules run in FP8
  Recompute recompute = Recompute::none;
  int microbatches = 1;         // of a step on this rank, at most
  std::vector<int> slots;       // per stage of the model: microbatches in flight, from the program
  bool split_backward = false;  // the program has I and W actions
  bool attention_across_documents = false;
  bool frozen_trunk = false;  // heads alone are trained, and are detached
};

class RankModel : public StageWork {
 public:
  RankModel(Stream& stream, const RankModelOptions& options);

  Parameters& parameters() { return *parameters_; }
  /// Of all buffers that were planned: parameters, gradients, activations.
  std::size_t planned_bytes() const { return arena_.bytes(); }
  /// Whether the main head is on this rank.
  bool has_main_head() const { return holds(options_.layout.head_stage()); }
  /// Whether any loss is taken on this rank.
  bool takes_losses() const;

  enum class Mode { train, evaluate };
  struct Step {
    Mode mode = Mode::train;
    std::span<const MicrobatchInput> microbatches;  // on the host; of the microbatches that were planned for
    std::vector<double> gradient_scales;  // [D + 1] weightₖ / valid targets of depth k in the global batch
    /// Of training: acceptance and, where MtpConfig::diagnose_every is set, gradients at the trunk are summed
    /// up too.
    bool diagnose = false;
    /// Called when a parameter unit's gradient on this rank is final, with its index in parameters().units().
    std::function<void(int unit)> unit_final = [](int) {};
  };
  /// Before the program of a step runs. What the gradients hold from before is left out of a training step:
  /// it is zeroed here, or overwritten by the step's first contribution.
  void begin_step(Step step);
  /// Over this rank's microbatches, on the stream's device; zeros of what other ranks compute, and of what
  /// the step did not sum up.
  const StepSums& sums() const { return sums_; }
  /// On the rank of the depth's stage: its logits [N, V] for the step's microbatch, which was the last one
  /// forwarded into the slot.
  void logits(int microbatch, int slot, int depth, const Tensor& out);

  Tensor activation_in(int stage, int slot) override { return at(stage).activation_in(slot, extras_); }
  Tensor activation_out(int stage, int slot) override { return at(stage).activation_out(slot, extras_); }
  Tensor gradient_in(int stage, int slot) override { return at(stage).gradient_in(slot, extras_); }
  Tensor gradient_out(int stage, int slot) override { return at(stage).gradient_out(slot, extras_); }
  void forward(int stage, int microbatch, int slot) override;
  void backward(int stage, int microbatch, int slot) override;
  void backward_input(int stage, int microbatch, int slot) override;
  void backward_weight(int stage, int microbatch, int slot) override;

 private:
  std::size_t index_of(int stage) const;
  bool holds(int stage) const { return std::find(stages_.begin(), stages_.end(), stage) != stages_.end(); }
  PipelineStage& at(int stage) { return compute_[index_of(stage)]; }
  LayerContext context(const MicrobatchInput& input) const;
  /// Without what this step is not to sum up.
  StepSums wanted_sums() const;
  bool counts_in_forward() const;
  void run_backward(int stage, int microbatch, int slot, Halves halves);
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
  std::vector<Halves> begun_;  // per stage, in this step
  Step step_;
  PipelineStage::Extras extras_;  // of the step
  bool sampled_ = false;          // a microbatch of the step trains some depths alone
  StepSums sums_;
  StepSums discarded_;  // what a forward sums up that is told by backward
  // Of a GPU: the step's microbatches there, and the page-locked memory that they are copied from.
  Arena input_arena_{DeviceKind::cpu, true};
  std::vector<MicrobatchInput> inputs_;
  std::vector<MicrobatchInput> host_inputs_;
  std::vector<int>
      contributions_;  // per unit: how many (stage, microbatch) pairs add to it in a step, per microbatch
  std::vector<int> remaining_;  // per unit: how many are still to come
};

}  // namespace foretoken
