#pragma once
// Prediction heads: the depths k = 1..D of multi-token prediction, which predict beyond the next token. A
// stage computes all of them beside the main head, one of them, or none. What depths on later stages read,
// and the gradients that they return, passes through a link (model/heads/heads_link.h). Each kind is one
// class behind this interface; model/config.h has the formulas. For every depth a head computes from the
// trunk's tensors the hidden state that an output matrix turns into logits:
//
//   logitsᵏ = hidden(k) · output(k).weightᵀ
//
// HostedHeads (model/stage/hosted_heads.h) hosts the heads of a stage; the predictor
// (model/stage/predictor.h) joins them with the main head and the losses.

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
  Tensor raw;         // [N, C] its output
  Tensor normed;      // [B, T, C] RMSNorm(raw; model.norm)

  Tensor& operator[](TrunkTensor which) {
    return which == TrunkTensor::last_input ? last_input : which == TrunkTensor::raw ? raw : normed;
  }
  const Tensor& operator[](TrunkTensor which) const { return const_cast<TrunkTensors&>(*this)[which]; }
};

struct OutputMatrix {
  Tensor weight;                      // [V, C]
  std::optional<Tensor> gradient;     // [V, C], if it is computed
  bool gradient_overwritten = false;  // by a step's first microbatch; later ones add to it
};

/// What a depth's loss is computed from.
struct DepthOutput {
  int depth = 0;
  Tensor hidden;  // [B, T, C]
  OutputMatrix matrix;
  std::optional<Tensor> dhidden;  // [B, T, C] =, if the gradient of `hidden` is computed
};
using DepthLoss = std::function<void(const DepthOutput& output)>;

/// Everything the heads are built from.
struct HeadsPlan {
  Stream& stream;
  const ModelConfig& model;
  const MtpConfig& mtp;
  const Parameters& parameters;
  Arena& arena;
  const ActivationPlan& activations;
  const Block::Scratch& scratch;          // shared with the stage's blocks
  bool frozen_trunk = false;              // the main model is not trained; requires detached heads
  DepthRange depths = DepthRange::all();  // computed by the stage
};

class PredictionHeads {
 public:
  /// Which matrices turn hidden states into logits: the main model's for all depths, or one for each depth.
  enum class Outputs { shared, own };
  PredictionHeads(const HeadsPlan& plan, Outputs outputs);
  virtual ~PredictionHeads() = default;

  /// D, over all stages.
  int depths() const { return depths_; }
  /// The depths that this stage computes: first()..last().
  int first() const { return range_.first; }
  int last() const { return range_.last; }

  /// Plans the buffers of one more microbatch in flight. On stages after the trunk's last, `trunk` and
  /// `dtrunk` come from the link and only reads() is defined in them.
  virtual void add_slot(const TrunkTensors& trunk, const TrunkTensors& dtrunk) = 0;
  /// The trunk tensor that the heads read. On a stage whose first depth in a chain is above 1, this member
  /// holds the previous depth's hidden state instead.
  virtual TrunkTensor reads() const { return TrunkTensor::normed; }
  /// Called after the trunk's forward.
  virtual void forward(const StagePass& pass) const = 0;
  /// Hidden state of the microbatch last forwarded into the slot; valid until the next call.
  virtual Tensor hidden(const LayerContext& context, int slot, int depth) const = 0;
  const OutputMatrix& output(int depth) const;
  /// The input of depth last() + 1; [N, C] or [B, T, C].
  virtual Tensor next_depth_input(int slot) const = 0;

  struct Backward {
    const StagePass& pass;
    Halves halves;
    const DepthLoss& loss;
    const TrunkProbe* probe = nullptr;       // null unless the pass measures gradients at the trunk
    const DepthGradients* deeper = nullptr;  // of next_depth_input(); null if no later stage has depths
  };
  /// In the input half: runs `loss` for every depth of this stage that the microbatch trains, in ascending
  /// order, and adds to `probe` the gradients of these depths and of deeper ones. Unless heads are detached:
  /// += into dtrunk.normed, and = into dtrunk.raw or last_input_gradient(), see writes_raw_gradient() and
  /// last_input_gradient().
  virtual void backward(const Backward& op) const = 0;
  /// Whether backward overwrites dtrunk.raw, provided that the first depth is trained.
  bool writes_raw_gradient() const { return !detached_ && reads() == TrunkTensor::raw; }
  /// [N, C] filled by backward if a depth is trained: the heads' gradient of the last block's input, to be
  /// added to the block's own. Empty if the heads are detached or do not read that input.
  virtual std::optional<Tensor> last_input_gradient() const { return std::nullopt; }

 protected:
  /// Index of a depth in vectors over this stage's depths.
  std::size_t index(int depth) const { return static_cast<std::size_t>(depth - range_.first); }
  /// Whether the microbatch trains deeper depths, which return a gradient of next_depth_input().
  bool has_deeper(const MicrobatchInput& input) const { return input.depths.deepest(depths_) > last(); }

  bool detached_;

 private:
  int depths_;
  DepthRange range_;
  OutputMatrix shared_;
  std::vector<OutputMatrix> own_;  // by depth; empty if depths share the model's matrix
};

/// The output matrix of a depth that has its own: "PREFIX.head.weight" [V, C].
ParameterSpec own_matrix(const ModelConfig& model, const std::string& prefix);

}  // namespace foretoken
