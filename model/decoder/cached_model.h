#pragma once
// The model that a decoder runs, one pass at a time, with caches. It holds this rank's part of the trunk and,
// on the last stage, the output matrix and the prediction heads. Each kind of heads implements how it drafts
// (model/heads/head_drafting.h).

#include <memory>
#include <optional>

#include "model/decoder/cached_trunk.h"
#include "model/decoder/pass.h"
#include "model/layers/rope_tables.h"

namespace foretoken {

class CachedModel {
 public:
  /// Plans weights, caches and scratch in the arena.
  CachedModel(Stream& stream, Arena& arena, const DecoderOptions& options);

  Parameters& parameters() { return *parameters_; }
  /// HeadDrafting::is_chained(); false without heads.
  bool is_chained() const { return drafting_ && drafting_->is_chained(); }
  /// Whether rows of the level must be computed before its logits.
  bool keeps_states(int level) const { return level == 0 || drafting_->keeps_states(); }

  /// Enqueues the operators of a pass; `indices` are the pass's indices on the device.
  void run(const Pass& pass, const Tensor& indices);

  /// [count, C] the hidden states of a pass's rows, received from the previous stage and sent to the next.
  Tensor hidden_states(std::int64_t count) const { return scratch_.x.rows(0, count); }
  /// [options.logits_per_pass(), V]: the first rows are the logits of the latest pass that computed any, one
  /// row per slot of that pass. The other rows are not valid.
  const Tensor& logits() const { return logits_; }
  /// [2 · options.logits] i32: the chosen tokens, indexed by their number (Pass::first_choice).
  const Tensor& chosen() const { return tokens_.chosen; }

 private:
  /// Plans the output matrix, logits and heads; returns the cache of the trunk's states.
  StateCache plan_last_stage(Arena& arena, const CachePlan& cache, const DecoderOptions& options);
  void run_rows(const Pass& pass, const RowIndices& indices);
  /// Returns the logits [N, V] of the tokens that follow the rows in `slots`.
  Tensor run_output(int level, const Tensor& slots);

  Stream& stream_;
  std::unique_ptr<Parameters> parameters_;
  RopeTables rope_;
  PassScratch scratch_;
  TokenTable tokens_;
  Tensor output_matrix_;  // [V, C]
  Tensor logits_;
  std::unique_ptr<HeadDrafting> drafting_;  // null without heads
  std::optional<CachedTrunk> trunk_;
};

}  // namespace foretoken
