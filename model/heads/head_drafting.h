#pragma once
// How a kind of prediction heads drafts while a text is generated: for each depth it computes the hidden
// states of new rows and, from them, the logits of the token that the depth predicts. Each kind implements
// HeadDrafting next to its training code; HeadKind::make_drafting (model/heads/head_kinds.h) constructs it.
// The object owns the caches that its depths need in addition to the trunk's.

#include <memory>

#include "model/cache/state_cache.h"
#include "model/cache/token_table.h"

namespace foretoken {

/// Constructor arguments of a HeadDrafting.
struct DraftingPlan {
  Stream& stream;
  const ModelConfig& model;
  const MtpConfig& mtp;
  const Parameters& parameters;
  CachePlan cache;
  std::int64_t rows = 0;     // R, maximum rows per pass
  std::int64_t outputs = 0;  // M, maximum rows of logits per pass
  const TokenTable& tokens;
  Tensor output_matrix;  // [V, C] the main model's output matrix
  const PassScratch& scratch;
};

/// New rows of one depth.
struct DepthRows {
  /// The hidden state that a chained depth reads in addition to the token.
  enum class Input {
    previous_depth,  // the previous depth's state at the same position
    own_output       // beyond the last depth: the last depth's own output at the previous position
  };

  const CachedRows& rows;
  Tensor tokens;       // [N] i32
  Tensor input_slots;  // [N] i32 slots of the input states
  Input input = Input::previous_depth;
};

class HeadDrafting {
 public:
  virtual ~HeadDrafting() = default;

  /// Whether depth k reads, at every row, the token k positions later and the previous depth's state. Rows of
  /// depth k must then be computed after the rows of depth k − 1, and drafting can continue beyond the last
  /// depth. Otherwise all depths read only the trunk.
  virtual bool is_chained() const { return false; }
  /// Whether depths read the trunk's states after or before the final norm.
  virtual StateCache::Kept trunk_states() const { return StateCache::Kept::normed; }
  /// The cache in which the trunk stores the input of its last block; null if no depth reads that input.
  virtual const SlotCache* last_input() const { return nullptr; }

  /// Whether depths cache states of their own. If so, forward() must compute a row before output() reads the
  /// row's state.
  virtual bool keeps_states() const { return false; }
  /// Computes new rows of a depth; `trunk` holds the trunk's states of these rows. Called only if
  /// keeps_states().
  virtual void forward(int, const DepthRows&, const StateCache&) const {}

  struct Output {
    Tensor hidden;  // [N, C], in a buffer of the scratch
    Tensor matrix;  // [V, C]
  };
  /// Returns the two factors of the logits of the rows in `slots` [N]: logits = hidden · matrixᵀ.
  virtual Output output(int depth, const Tensor& slots, const StateCache& trunk) const = 0;
};

/// A depth with a decoder block: the block, and the cache of the states that the block computes.
struct CachedDepth {
  CachedBlock block;
  StateCache states;

  /// x [R, C], the block's input, is replaced by its output.
  void forward(const CachedRows& rows, const Tensor& x, const PassScratch& scratch) const {
    block.forward(rows, x, scratch.block);
    states.store(rows, x, scratch);
  }
};
/// `norm` is the parameter name of the depth's norm.
CachedDepth make_cached_depth(const DraftingPlan& plan, int depth, const std::string& norm,
                              StateCache::Kept kept);

}  // namespace foretoken
