#pragma once
// How a kind of prediction heads drafts while a text is generated: for each depth, the hidden state of new
// rows, and the logits of the token that the depth predicts. Each kind implements it next to its training
// code and is made by its row of head_kind() (model/heads/prediction_heads.h). It owns the caches that its
// depths need in addition to the trunk's.

#include <memory>

#include "model/cache/state_cache.h"
#include "model/cache/token_table.h"

namespace foretoken {

/// Everything that drafting is built from.
struct DraftingPlan {
  Stream& stream;
  const ModelConfig& model;
  const MtpConfig& mtp;
  const Parameters& parameters;
  CachePlan cache;
  std::int64_t rows = 0;     // R, most rows of a depth in one pass
  std::int64_t outputs = 0;  // M, most rows of logits in one pass
  const TokenTable& tokens;
  Tensor output_matrix;  // [V, C] the main model's
  const PassScratch& scratch;
};

/// New rows of one depth.
struct DepthRows {
  /// The hidden state that a chained depth reads in addition to the token.
  enum class Input {
    previous_depth,  // the previous depth's state
    own_output       // drafting past the last depth: its own output at the previous position instead
  };

  const CachedRows& rows;
  Tensor tokens;       // [N] i32
  Tensor input_slots;  // [N] i32 slots of the input states
  Input input = Input::previous_depth;
};

class HeadDrafting {
 public:
  virtual ~HeadDrafting() = default;

  /// Whether depth k reads, at every row, the token k positions later and the previous depth's state. Its
  /// rows must then be computed after those of depth k − 1, and drafting continues past the last depth.
  /// Otherwise all depths read the trunk alone.
  virtual bool is_chained() const { return false; }
  /// Which states of the trunk a depth reads.
  virtual StateCache::Kept trunk_states() const { return StateCache::Kept::normed; }
  /// Where the trunk stores the input of its last block for the heads; null if no depth reads it.
  virtual const SlotCache* last_input() const { return nullptr; }

  /// Whether depths have states of their own, so that forward() must compute rows before output() reads them.
  virtual bool keeps_states() const { return false; }
  /// Computes new rows of a depth; `trunk` holds the trunk's states of these rows. Called only if depths have
  /// states.
  virtual void forward(int, const DepthRows&, const StateCache&) const {}

  struct Output {
    Tensor hidden;  // [N, C], in a buffer of the scratch
    Tensor matrix;  // [V, C]
  };
  /// logits = hidden · matrixᵀ for the rows in `slots` [N].
  virtual Output output(int depth, const Tensor& slots, const StateCache& trunk) const = 0;
};

/// A depth with a decoder block: the block, and the states after it.
struct CachedDepth {
  CachedBlock block;
  StateCache states;

  /// x [R, C], the block's input, is replaced by its output.
  void forward(const CachedRows& rows, const Tensor& x, const PassScratch& scratch) const {
    block.forward(rows, x, scratch.block);
    states.store(rows, x, scratch);
  }
};
/// `norm` is the name of the weight of the depth's norm.
CachedDepth make_cached_depth(const DraftingPlan& plan, int depth, const std::string& norm,
                              StateCache::Kept kept);

}  // namespace foretoken
