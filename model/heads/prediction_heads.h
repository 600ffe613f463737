#pragma once
// What predicts further than the next token: the depths k = 1..D of multi-token prediction, behind the trunk.
// A stage computes all of them beside the main head, one of them, or none; what deeper ones on later stages
// read, and the gradients that they give it, go through a link (model/heads/heads_link.h). Each kind
// (model/config.h has the formulas) is a class behind one interface. A head makes of the trunk's tensors, at
// every depth, the hidden state that an output matrix turns into logits:
//
//   logitsᵏ = hidden(k) · output(k).weightᵀ
//
// The predictor (model/predictor.h) hosts it, and owns the matrix that depths share and the losses.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/block.h"
#include "model/heads/heads_link.h"

namespace foretoken {

/// What the trunk hands the heads of one microbatch in flight; also the gradients of that.
struct TrunkTensors {
  Tensor last_input;  // [N, C] what its last block takes; undefined where the stage has no block
  Tensor raw;         // [N, C] its output
  Tensor normed;      // [B, T, C] RMSNorm(raw; model.norm)
};

struct OutputMatrix {
  Tensor weight;        // [V, C]
  Tensor gradient;      // [V, C]; undefined where none is taken
  bool begins = false;  // the first microbatch of a step overwrites the gradient, else it is added to
};

/// Takes the loss of a depth from its hidden state [B, T, C], and fills dhidden where that is defined.
using DepthLoss =
    std::function<void(int depth, const Tensor& hidden, const OutputMatrix& matrix, const Tensor& dhidden)>;

/// Told, of every depth alone, the gradient [N, C] that its loss gives the tensor of the trunk that heads
/// read.
using TrunkProbe = std::function<void(int depth, const Tensor& gradient)>;

/// Everything the heads are built from.
struct HeadsPlan {
  Stream& stream;
  const ModelConfig& model;
  const MtpConfig& mtp;
  const Parameters& parameters;
  Arena& arena;
  const ActivationPlan& activations;
  const Block::Scratch& scratch;          // of the stage's blocks
  bool frozen_trunk = false;              // the main model is not trained; heads are detached
  DepthRange depths = DepthRange::all();  // that the stage computes
};

class PredictionHeads {
 public:
  explicit PredictionHeads(const HeadsPlan& plan);
  virtual ~PredictionHeads() = default;

  /// D, of all stages.
  int depths() const { return depths_; }
  /// Those computed here: first()..last().
  int first() const { return range_.first; }
  int last() const { return range_.last; }

  /// Plans the buffers of one more microbatch in flight. Where the stage is not the trunk's last, its tensors
  /// are what came down the link: reads() alone is defined.
  virtual void add_slot(const TrunkTensors& trunk, const TrunkTensors& dtrunk) = 0;
  /// The tensor of the trunk that they predict from; of a chain that begins at a deeper depth, the form of
  /// the state before.
  virtual Tensor TrunkTensors::*reads() const { return &TrunkTensors::normed; }
  /// Follows the trunk's forward.
  virtual void forward(const LayerContext& context, const MicrobatchInput& input, int slot) const = 0;
  /// Of the microbatch last forwarded into the slot; valid until the next call.
  virtual Tensor hidden(const LayerContext& context, int slot, int depth) const = 0;
  OutputMatrix output(int depth) const;
  /// What depth last() + 1 reads; [N, C] or [B, T, C].
  virtual Tensor hands_on(int slot) const = 0;
  /// Calls loss for every depth here that the microbatch trains in its input half, in their order, and the
  /// probe where there is one, of deeper depths too, whose gradients of hands_on() are `deeper`'s. Unless
  /// heads are detached from it: += into dtrunk.normed, and = into what the next two say.
  virtual void backward(const LayerContext& context, const MicrobatchInput& input, int slot, Halves halves,
                        const DepthLoss& loss, const TrunkProbe& probe,
                        const DepthGradients& deeper) const = 0;
  /// Whether backward fills dtrunk.raw, where the first depth is trained.
  bool gives_raw_gradient() const { return !detached_ && reads() == &TrunkTensors::raw; }
  /// Whether it gives the trunk any gradient.
  bool gives_gradient() const { return !detached_; }
  /// [N, C] filled by backward, where a depth is trained: joins what the last block gives for its input.
  /// Undefined where there is none.
  virtual Tensor last_input_gradient() const { return {}; }

 protected:
  /// Of a depth here in a vector of them.
  std::size_t index(int depth) const { return static_cast<std::size_t>(depth - range_.first); }
  /// Whether deeper depths give a gradient of what this stage hands on.
  bool has_deeper(const MicrobatchInput& input) const { return input.depths.deepest(depths_) > last(); }

  bool detached_;

 private:
  int depths_;
  DepthRange range_;
  OutputMatrix shared_;
  std::vector<OutputMatrix> own_;  // by depth; empty where depths share the model's
};

/// What the rest of the program knows of a kind.
struct HeadKind {
  /// What one depth owns, its names beginning with `prefix`.
  std::vector<ParameterSpec> (*parameters)(const ModelConfig& model, const MtpConfig& mtp,
                                           const std::string& prefix);
  /// Forward FLOPs per token of one depth but its output matrix, where a block costs `block`.
  double (*cost)(const ModelConfig& model, const MtpConfig& mtp, double block);
  std::unique_ptr<PredictionHeads> (*make)(const HeadsPlan& plan);
  bool embeds = false;              // looks tokens up in the embedding table
  bool takes_last_input = false;    // the stage of the main head holds the trunk's last block
  bool ends_in_final_norm = false;  // a depth ends in the main model's
  bool owns_matrix = false;         // a depth always has an output matrix of its own
  bool has_block = false;           // a depth has a decoder block
  bool in_turn = false;  // forward, loss and backward of a depth come with the microbatch's backward
};
const HeadKind& head_kind(MtpConfig::Kind kind);

/// Whether every depth has an output matrix of its own.
bool owns_matrix(const MtpConfig& mtp);
/// Of a depth that has one: "PREFIX.head.weight" [V, C].
ParameterSpec own_matrix(const ModelConfig& model, const std::string& prefix);

}  // namespace foretoken
