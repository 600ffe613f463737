#pragma once
// Prediction heads: the depths k = 1..D of multi-token prediction, which predict beyond the next token. A
// stage computes all of them together with the main head, or one of them, or none. Inputs of depths on later
// stages, and the gradients of these inputs, pass through a link (model/heads/heads_link.h). Each kind of
// heads is a class that implements PredictionHeads; model/config.h has the formulas. A head computes a hidden
// state from the trunk's tensors, and an output matrix turns the hidden state into logits:
//
//   logitsᵏ = hidden(k) · output(k).weightᵀ
//
// HostedHeads (model/stage/hosted_heads.h) holds the heads of a stage and their links; the predictor
// (model/stage/predictor.h) combines them with the main head and the losses.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model/heads/heads_link.h"
#include "model/heads/trunk_probe.h"
#include "model/layers/block.h"

namespace foretoken {

/// The tensors of the trunk that heads may read.
enum class TrunkTensor { last_input, raw, normed };

/// The trunk's outputs for one microbatch in flight, or their gradients.
struct TrunkTensors {
  Tensor last_input;  // [N, C] input of the trunk's last block; undefined if the stage has no block
  Tensor raw;         // [N, C] output of the trunk's last block
  Tensor normed;      // [B, T, C] RMSNorm(raw; model.norm)

  Tensor& operator[](TrunkTensor which) {
    return which == TrunkTensor::last_input ? last_input : which == TrunkTensor::raw ? raw : normed;
  }
  const Tensor& operator[](TrunkTensor which) const { return const_cast<TrunkTensors&>(*this)[which]; }
};

struct OutputMatrix {
  Tensor weight;                      // [V, C]
  std::optional<Tensor> gradient;     // [V, C]; empty if it is not computed
  bool gradient_overwritten = false;  // a step's first microbatch overwrites it; otherwise all add to it
};

/// The inputs of a depth's loss, and the gradient that the loss returns.
struct DepthOutput {
  int depth = 0;
  Tensor hidden;  // [B, T, C]
  OutputMatrix matrix;
  std::optional<Tensor> dhidden;  // [B, T, C], overwritten; empty if the gradient of `hidden` is not needed
};
using DepthLoss = std::function<void(const DepthOutput& output)>;

/// Constructor arguments of the heads.
struct HeadsPlan {
  Stream& stream;
  const ModelConfig& model;
  const MtpConfig& mtp;
  const Parameters& parameters;
  Arena& arena;
  const ActivationPlan& activations;
  const Block::Scratch& scratch;          // shared with the stage's blocks
  bool frozen_trunk = false;              // the main model is not trained; requires detached heads
  DepthRange depths = DepthRange::all();  // the depths that the stage computes
};

class PredictionHeads {
 public:
  /// Which matrices turn hidden states into logits: the main model's for all depths, or one for each depth.
  enum class Outputs { shared, own };
  PredictionHeads(const HeadsPlan& plan, Outputs outputs);
  virtual ~PredictionHeads() = default;

  /// D, the number of depths on all stages.
  int depths() const { return depths_; }
  /// The depths that this stage computes: first()..last().
  int first() const { return range_.first; }
  int last() const { return range_.last; }

  /// Plans the buffers of one more microbatch in flight. On stages after the trunk's last stage, `trunk` and
  /// `dtrunk` are tensors of the link, and only their member reads() is defined.
  virtual void add_slot(const TrunkTensors& trunk, const TrunkTensors& dtrunk) = 0;
  /// The trunk tensor that the heads read. If a chain's depth 1 is on an earlier stage, this member of
  /// TrunkTensors holds the previous depth's hidden state instead.
  virtual TrunkTensor reads() const { return TrunkTensor::normed; }
  /// Runs after the trunk's forward.
  virtual void forward(const StagePass& pass) const = 0;
  /// Hidden state of the microbatch that forward() ran last in the slot; valid until the next call.
  virtual Tensor hidden(const LayerContext& context, int slot, int depth) const = 0;
  const OutputMatrix& output(int depth) const;
  /// The input of depth last() + 1; [N, C] or [B, T, C].
  virtual Tensor next_depth_input(int slot) const = 0;

  struct Backward {
    const StagePass& pass;
    Halves halves;
    const DepthLoss& loss;
    const TrunkProbe* probe = nullptr;       // null unless the pass measures gradients at the trunk
    const DepthGradients* deeper = nullptr;  // gradient of next_depth_input(); null on the last stage
  };
  /// The input half runs `loss` for every depth of this stage that the microbatch trains, in ascending order.
  /// It adds the gradients of these depths and of deeper ones to `probe`. Unless heads are detached, it adds
  /// to dtrunk.normed or overwrites dtrunk.raw (see writes_raw_gradient()) or last_input_gradient().
  virtual void backward(const Backward& op) const = 0;
  /// Whether backward overwrites dtrunk.raw if the microbatch trains the first depth.
  bool writes_raw_gradient() const { return !detached_ && reads() == TrunkTensor::raw; }
  /// [N, C] the heads' gradient of the last block's input, which the caller adds to the block's own. backward
  /// fills it if the microbatch trains a depth. Empty if the heads are detached or do not read that input.
  virtual std::optional<Tensor> last_input_gradient() const { return std::nullopt; }

 protected:
  /// Index of a depth in vectors over this stage's depths.
  std::size_t index(int depth) const { return static_cast<std::size_t>(depth - range_.first); }
  /// Whether the microbatch trains depths on later stages, which return a gradient of next_depth_input().
  bool has_deeper(const MicrobatchInput& input) const { return input.depths.deepest(depths_) > last(); }

  bool detached_;

 private:
  int depths_;
  DepthRange range_;
  OutputMatrix shared_;
  std::vector<OutputMatrix> own_;  // by depth; empty if depths share the model's matrix
};

/// Spec of a depth's own output matrix: "PREFIX.head.weight" [V, C].
ParameterSpec own_matrix(const ModelConfig& model, const std::string& prefix);

}  // namespace foretoken
