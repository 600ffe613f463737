#pragma once
// The model for generating text. It runs over new tokens alone; for earlier tokens it keeps, per sequence
// and position, each block's keys and values and the hidden states that every level computes. Level 0 is the
// trunk with the final norm; level k is the prediction head of depth k (model/config.h), which drafts the
// token k + 1 ahead.
//
// One call, forward(), serves prefill (whole or in chunks), decoding one token of each of many sequences,
// and verification of several drafts. Computing a row again replaces it and invalidates later positions of
// its sequence, so rejected drafts are undone by continuing from an earlier position.
//
// A text may continue in several ways at once. Rows of such a tree are kept in cells of their sequence that
// the caller chooses, after those of the text, and name the cells of their ancestors; settle() makes one
// branch the text.
//
// Calls record passes; start(), or waiting for a result, sends all recorded passes to the device together. A
// token chosen in one pass can be the input of a later pass without a copy to the host, so a chain of drafts
// and its verification are one submission.
//
// The trunk may be spread over ranks (model/generation/trunk_pipeline.h). The last stage's decoder is then
// called as described; the decoders of other stages run follow().

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "model/cache/cached_block.h"
#include "model/generation/trunk_pipeline.h"
#include "model/heads/mtp_module.h"
#include "model/heads/prediction_heads.h"
#include "model/rope_tables.h"
#include "runtime/operators/products/linear.h"
#include "runtime/operators/rowwise/rms_norm.h"
#include "runtime/replays.h"

namespace foretoken {

struct DecoderOptions {
  ModelConfig model;
  MtpConfig mtp;             // depths 0 for plain generation
  DType dtype = DType::f32;  // of activations, caches, and the weights that layers compute with
  std::int64_t sequences = 1;
  std::int64_t positions = 0;         // maximum length of a sequence
  std::int64_t branches = 0;          // cells per sequence in addition to its positions, for rows of trees
  std::int64_t rows = 512;            // of prompts that are computed together
  std::int64_t logits = 1;            // maximum rows of logits per call
  TrunkPipeline* pipeline = nullptr;  // this rank's stage; other options must be equal on all ranks
};

class Decoder {
 public:
  Decoder(Stream& stream, const DecoderOptions& options);

  /// The caller fills the parameters, then calls round_weights().
  Parameters& parameters() { return *parameters_; }
  const DecoderOptions& options() const { return options_; }
  /// Threads for the caller's own work on the host.
  ThreadPool& threads() const { return stream_.threads(); }
  int levels() const { return static_cast<int>(options_.mtp.depths) + 1; }
  /// Whether levels k > 0 read tokens; otherwise they read the trunk alone.
  bool is_chained() const { return options_.mtp.kind == MtpConfig::Kind::sequential; }

  /// A cell of a sequence. The text's row at a position is kept in the cell of the same number.
  struct Place {
    std::int32_t sequence = 0;
    std::int32_t position = 0;
  };
  struct Row {
    Place place;
    std::int32_t token = 0;  // or chosen(i), the i-th token of choose()
    /// In a tree: the row's own cell and those of its ancestors, nearest first, without rows of the text.
    std::span<const std::int32_t> branch{};
    std::int32_t from = -1;  // in a tree: the cell of the input state; −1: the text's
  };
  /// The hidden state that a chained level reads in addition to the token.
  enum class Input {
    previous_level,  // the previous level's state at the row's position
    own_output       // drafting past the last level: its own output at the previous position instead
  };
  /// Computes rows of a level. In level 0 a row's token is the sequence's token at that position; in a
  /// chained level k it is the token k positions later. The caches must hold all earlier input: positions
  /// 0..p − 1 of this level, and the row's input state. Rows of one sequence must be in ascending order.
  ///
  /// Rows are computed in parts of at most most_few_rows (runtime/operators/products/linear.h), here and in
  /// logits(), so a row's result has the same bits whatever rows are computed with it.
  void forward(int level, std::span<const Row> rows, Input input = Input::previous_level);
  /// Level 0 for many rows, in parts of options.rows. Faster, but the bits depend on how rows are divided
  /// into parts.
  void forward_prompts(std::span<const Row> rows);

  /// On all pipeline stages but the last: runs the passes that the last stage's decoder sends, until
  /// dismiss().
  void follow();
  /// On the last stage: ends follow() on the other stages. No effect without a pipeline.
  void dismiss();

  /// [places, V] on the host, valid until the next call: logits of the token level + 1 after each place. The
  /// row of each place must have been computed. For a tree's row the place is its cell.
  std::span<const float> logits(int level, std::span<const Place> places);

  /// Chooses after each place the `candidates` likeliest tokens among ids below `vocabulary` (0: the
  /// model's), likeliest first, the lowest id first among equals. Chosen tokens are numbered from 0 after
  /// each call of tokens(), a place's candidates consecutively; returns the first number. chosen(number) can
  /// be the token of a row of any level, except of a trunk that is spread over ranks.
  std::int32_t choose(int level, std::span<const Place> places, std::int64_t vocabulary = 0,
                      std::int64_t candidates = 1);
  /// Stands for the token of that number until the next call of tokens().
  static constexpr std::int32_t chosen(std::int32_t number) { return -1 - number; }
  /// All chosen tokens by number, on the host, valid until the next call. Throws a NumericalError if a logit
  /// is not a number or the largest is not finite.
  std::span<const std::int32_t> tokens();

  struct Move {
    std::int32_t sequence = 0;
    std::int32_t from = 0, to = 0;  // cells
  };
  /// Moves what level 0 keeps of rows from cell to cell, in order. No row may move twice.
  void settle(std::span<const Move> moves);

  /// Sends the recorded passes to the device.
  void start();

 private:
  /// One depth of sequential or parallel heads.
  struct Head {
    std::optional<MtpModule::Weights> module;  // sequential
    CachedBlock block;
    Tensor norm;  // [C]
  };
  bool is_first() const { return !options_.pipeline || options_.pipeline->is_first(); }
  bool is_last() const { return !options_.pipeline || options_.pipeline->is_last(); }
  void plan_trunk();
  /// Plans everything after the trunk: final norm, output matrix and heads.
  void plan_last();
  void plan_heads();
  /// Sends to the other stages, if this is the last stage of a pipeline.
  void tell(std::span<const Row> rows);
  void tell(std::span<const Move> moves);
  void synchronize();
  std::int64_t cells() const { return options_.positions + options_.branches; }
  std::int64_t logits_together() const { return std::min(options_.logits, most_few_rows); }
  void check(const char* what, int level, const Place& place, std::int64_t positions) const;
  void check(const Row& row, int level, Input input) const;
  std::int32_t cell(std::int32_t sequence, std::int32_t of_sequence) const;
  void forward_in_parts(int level, std::span<const Row> rows, Input input, std::int64_t of_rows);
  void forward_part(int level, std::span<const Row> rows, Input input);
  /// Number of rows of heads, or of moves, that are run for `count` of them; the last one is repeated, which
  /// changes no result. The count varies from round to round, and a GPU records a graph for each distinct
  /// count.
  std::int64_t rounded(std::int64_t count) const;

  enum class Work : std::uint8_t { forward, logits, choose, settle };
  /// A recorded pass.
  struct Pass {
    Work work = Work::forward;
    int level = 0;
    std::int64_t count = 0;  // of rows, places or moves
    Input input = Input::previous_level;
    std::int64_t reach = 0;                   // of paths: length
    std::int64_t number = 0, vocabulary = 0;  // of the first chosen token; ids to choose from
    std::int64_t candidates = 0;              // chosen for each place
    std::int64_t at = 0;                      // offset of its numbers in index_
  };
  /// Reserves `numbers` entries of index_ for the pass and returns them on the host.
  std::span<std::int32_t> note(Pass pass, std::int64_t numbers);
  void note_rows(int level, std::span<const Row> rows, Input input);
  /// Records one pass for as many places as are computed together, from `first` on; returns their number.
  std::int64_t note_places(Pass pass, std::span<const Place> places, std::int64_t first);
  /// At most as many moves as index_ has entries for.
  void note_moves(std::span<const Move> moves);
  void run(const Pass& pass);
  /// [count] the pass's i-th entry for each row, place or move.
  Tensor numbers(const Pass& pass, std::int64_t i) const {
    return index_.flat(pass.at + i * pass.count, pass.count);
  }
  /// [count, V]
  Tensor run_output(const Pass& pass);
  void run_trunk(const CachedRows& rows, const Pass& pass);
  void run_head(const CachedRows& rows, const Pass& pass);
  void run_moves(const Pass& pass);
  void take_in(const Head& head, const Tensor& states, const Pass& pass, const Tensor& x);
  void keep(const CachedRows& rows, int level, const Tensor& x);
  /// out[n] = table[tokens[n]]
  void embed(const Tensor& tokens, const Tensor& out);
  /// out[n] = table[index[n]]
  void look_up(const Tensor& table, const Tensor& index, const Tensor& out);
  void norm(const Tensor& x, const Tensor& weight, const Columns& out);
  Tensor norm_of(int level) const { return level == 0 || heads_.empty() ? norm_ : head(level).norm; }
  const Head& head(int level) const { return heads_[static_cast<std::size_t>(level) - 1]; }
  bool keeps_normed(int level) const;
  Tensor states(int level) const { return states_[static_cast<std::size_t>(level)]; }

  Stream& stream_;
  DecoderOptions options_;
  Arena arena_;
  std::unique_ptr<Parameters> parameters_;
  RopeTables rope_;
  Tensor table_, norm_, output_;  // [V, C], [C], [V, C]
  std::vector<CachedBlock> blocks_;
  std::vector<Head> heads_;                       // [D] of sequential and parallel heads
  std::unique_ptr<PredictionHeads> small_heads_;  // the other kinds, which read the normed state alone
  LayerContext small_context_;
  Tensor small_input_;          // [m, 1, C]
  std::vector<Tensor> states_;  // by level: [S, P, C]
  Tensor last_input_;           // parallel: [S, P, C] input of the trunk's last block
  // Buffers of one call:
  CachedBlock::Scratch scratch_;
  Tensor x_;         // [R, C]
  Tensor embedded_;  // [R, C], sequential
  Tensor joined_;    // [R, 2C], sequential
  Tensor gathered_;  // [m, C] rows whose logits are computed together
  Tensor logits_;    // [m, V]
  Tensor chosen_;    // [2·logits] i32
  // Recorded indices. Per row: token, position, cell, cell of the input state, path [A]. Per place: its
  // cell. Per move: source and destination cell.
  Tensor index_;  // i32
  std::vector<Pass> passes_, running_;
  std::int64_t noted_ = 0;  // entries recorded
  struct Choice {
    int level;
    Place place;
  };
  std::vector<Choice> choices_, told_;  // by number; those of the last tokens() call
  // Page-locked. Indices that are being copied to the device must not change, so new ones are recorded after
  // them.
  Arena host_arena_;
  Tensor host_index_;  // i32
  std::int64_t host_begin_ = 0;
  Tensor host_logits_;  // [logits, V]
  Tensor host_chosen_;  // [2·logits] i32
  Replays replays_;
  Replays::Key key_;
};

}  // namespace foretoken
