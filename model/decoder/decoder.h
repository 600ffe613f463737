#pragma once
// The model for generating text. It computes new tokens only; for earlier tokens it caches, per sequence
// and position, each block's keys and values and the hidden states of every level. Level 0 is the trunk with
// the final norm; level k is the prediction head of depth k (model/config.h), which drafts the token k + 1
// positions ahead.
//
// One call, forward(), serves prefill (whole or in chunks), decoding one token of each of many sequences,
// and verification of several drafts. Computing a row again replaces it and invalidates later positions of
// its sequence, so rejected drafts are undone by continuing from an earlier position.
//
// Drafts may form a tree of alternative continuations. The caller chooses the slots of the tree's rows, after
// the slots of the text's positions, and each row names the slots of its ancestors. move_slots() moves the
// accepted branch to the slots of the text.
//
// Calls queue passes (model/decoder/pass_queue.h). start(), or waiting for a result, sends all queued passes
// to the device together. A token chosen in one pass can be the input of a later pass without a copy to the
// host, so the drafts of a chain and their verification are sent together.
//
// The trunk may be spread over ranks (model/decoder/trunk_pipeline.h). Only the last stage's decoder is
// called as described then; the decoders of the other stages run follow().

#include <cstdint>
#include <span>
#include <vector>

#include "model/decoder/pass_queue.h"

namespace foretoken {

class Decoder {
 public:
  Decoder(Stream& stream, const DecoderOptions& options);

  /// The caller fills the parameters, then calls round_weights().
  Parameters& parameters() { return model_.parameters(); }
  const DecoderOptions& options() const { return options_; }
  /// Threads for the caller's own work on the host.
  ThreadPool& threads() const { return stream_.threads(); }
  int levels() const { return static_cast<int>(options_.mtp.depths) + 1; }
  /// Whether levels k > 0 read tokens and the previous level; otherwise they read only the trunk.
  bool is_chained() const { return model_.is_chained(); }

  using Input = DepthRows::Input;
  /// Computes rows of a level. In level 0 a row's token is the sequence's token at the row's position; in a
  /// chained level k it is the token k positions later. The caches must already hold the earlier positions of
  /// this level and the row's input state. Rows of one sequence must be in ascending order.
  ///
  /// forward() and logits() compute at most most_few_rows rows at a time
  /// (runtime/operators/products/linear.h), so a row's result has the same bits whatever rows are computed
  /// with it.
  void forward(int level, std::span<const DecoderRow> rows, Input input = Input::previous_depth);
  /// Level 0 for many rows, options.rows at a time. Faster than forward(), but a row's bits depend on the
  /// rows that are computed with it.
  void forward_prompts(std::span<const DecoderRow> rows);

  /// [slots, V] on the host, valid until the next call: logits of the token level + 1 after the row in each
  /// slot. These rows must have been computed.
  std::span<const float> logits(int level, std::span<const CacheSlot> slots);

  /// For the row in each slot, chooses the `candidates` likeliest next tokens among ids below `vocabulary`
  /// (0: the model's vocabulary), likeliest first; of equal logits the lower id comes first. Chosen tokens
  /// are numbered from 0 after each call of tokens(), a slot's candidates consecutively. Returns the number
  /// of the first one. chosen(number) can be the token of a row of any level, except if the trunk is spread
  /// over ranks and the level is 0.
  std::int32_t choose(int level, std::span<const CacheSlot> slots, std::int64_t vocabulary = 0,
                      std::int64_t candidates = 1);
  /// The placeholder for the chosen token of this number, valid until the next call of tokens().
  static constexpr std::int32_t chosen(std::int32_t number) { return -1 - number; }
  /// All chosen tokens by number, on the host, valid until the next call. Throws a NumericalError if a logit
  /// is not a number or the largest is not finite.
  std::span<const std::int32_t> tokens();

  /// Moves the trunk's cached rows from slot to slot, in order. No row may move twice.
  void move_slots(std::span<const SlotMove> moves);

  /// Sends the queued passes to the device.
  void start() { queue_.start(); }

  /// On all pipeline stages but the last: computes what the last stage's decoder orders, until that decoder
  /// calls stop_followers().
  void follow();
  /// On the last stage: ends follow() on the other stages. No effect without a pipeline.
  void stop_followers();

 private:
  void check_slot(const char* what, int level, const CacheSlot& slot, std::int64_t slots) const;
  void check_row(const DecoderRow& row, int level, Input input) const;
  void forward_in_parts(int level, std::span<const DecoderRow> rows, Input input, std::int64_t rows_per_part);
  void forward_part(int level, std::span<const DecoderRow> rows, Input input);
  /// Whether this is the last stage of a pipeline, which orders the others to compute.
  bool sends_orders() const { return options_.pipeline && options_.is_last_stage(); }

  /// The row that a chosen token follows.
  struct Choice {
    int level;
    CacheSlot slot;
  };

  Stream& stream_;
  DecoderOptions options_;
  Arena arena_;
  Arena host_arena_;  // page-locked
  CachedModel model_;
  PassQueue queue_;
  Tensor host_logits_;           // [logits, V]
  Tensor host_chosen_;           // [2·logits] i32
  std::vector<Choice> choices_;  // queued since the last call of tokens(), indexed by number (choose())
};

}  // namespace foretoken
