#pragma once
// The hidden states of one level, one per slot. A level is the trunk or the prediction head of one depth. The
// states have two readers: the level's output matrix, which computes logits from them, and the next depth of
// a chain.

#include "model/cache/cached_block.h"

namespace foretoken {

/// Buffers of one pass, shared by all levels.
struct PassScratch {
  CachedBlock::Scratch block;
  Tensor x;         // [R, C] hidden states of the pass's rows; blocks update them in place
  Tensor gathered;  // [slots with logits, C] their states; undefined if the rank has no head
};

class StateCache {
 public:
  /// Whether the cache holds states after the level's norm (normed) or before it (raw).
  enum class Kept { normed, raw };
  /// `norm` [C] is the weight of the level's norm.
  StateCache(SlotCache states, const Tensor& norm, double eps, Kept kept)
      : states_(std::move(states)), norm_(norm), eps_(eps), kept_(kept) {}

  /// Stores the level's output x [N, C] of the rows.
  void store(const CachedRows& rows, const Tensor& x, const PassScratch& scratch) const;
  /// Returns the normed states [N, C] in slots [N], in a buffer of the scratch.
  Tensor load_normed(Stream& stream, const Tensor& slots, const PassScratch& scratch) const;
  /// The cached states, normed or raw (see Kept).
  const SlotCache& states() const { return states_; }

 private:
  Tensor normed(Stream& stream, const Tensor& x, const PassScratch& scratch) const;

  SlotCache states_;
  Tensor norm_;  // [C]
  double eps_;
  Kept kept_;
};

}  // namespace foretoken
