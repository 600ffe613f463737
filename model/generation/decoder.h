#pragma once
// The model for generating text: it runs over new tokens alone and keeps of earlier ones, per sequence and
// position, each block's keys and values and the hidden states that come out of every level. Level 0 is the
// trunk with the final norm, level k the prediction head of depth k (model/config.h), which drafts the token
// k + 1 ahead.
//
// Everything is one call: a prompt whole or in chunks, one token of each of many sequences, several drafts to
// be verified. A row may be given again later: from there on the sequence is another. So what was computed
// for rejected drafts is undone by going on from an earlier position.
//
// A text may also go on in several ways at once. Rows of such a tree are kept in cells of their sequence that
// their giver chooses, past those of the text, and name the cells of their ancestors; settle() makes one
// branch the text.
//
// Calls note what is to be done, and all of it is sent to the device in one piece once somebody starts it or
// waits for a result. A token that one pass chooses can be a row's of a later one without coming to the host:
// so a chain of drafts and its verification are one piece of work.
//
// The trunk may be spread over ranks (model/generation/trunk_pipeline.h). All of the above is then said to
// the decoder of the last stage; the others follow().

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "model/generation/cached_block.h"
#include "model/generation/trunk_pipeline.h"
#include "model/heads/mtp_module.h"
#include "model/heads/prediction_heads.h"
#include "model/rope_tables.h"
#include "runtime/operators/linear.h"
#include "runtime/operators/rms_norm.h"
#include "runtime/replays.h"

namespace foretoken {

struct DecoderOptions {
  ModelConfig model;
  MtpConfig mtp;             // with no depths for plain generation
  DType dtype = DType::f32;  // of activations, caches, and the weights that layers compute with
  std::int64_t sequences = 1;
  std::int64_t positions = 0;         // of a sequence, at most
  std::int64_t branches = 0;          // cells of a sequence beyond its positions, for rows of trees
  std::int64_t rows = 512;            // of prompts that are computed together
  std::int64_t logits = 1;            // rows of logits that are asked for together, at most
  TrunkPipeline* pipeline = nullptr;  // of which it is a stage, with the other options the same on all ranks
};

class Decoder {
 public:
  Decoder(Stream& stream, const DecoderOptions& options);

  /// To be filled by the caller; round_weights() after it.
  Parameters& parameters() { return *parameters_; }
  const DecoderOptions& options() const { return options_; }
  /// For what is left to the host.
  ThreadPool& threads() const { return stream_.threads(); }
  int levels() const { return static_cast<int>(options_.mtp.depths) + 1; }
  /// Whether a level looks at tokens, or at the trunk alone.
  bool is_chained() const { return options_.mtp.kind == MtpConfig::Kind::sequential; }

  /// A row of the text is kept in the cell of its position's number.
  struct Place {
    std::int32_t sequence = 0;
    std::int32_t position = 0;
  };
  struct Row {
    Place place;
    std::int32_t token = 0;  // or chosen(i): the i-th that choose() gives
    /// In a tree: the row's own cell, that of the row before it, and so on as far as cells are not the
    /// text's.
    std::span<const std::int32_t> branch{};
    std::int32_t from = -1;  // in a tree: the cell of the state that is taken in; −1: the text's
  };
  /// What a chained level takes beside the token.
  enum class Input {
    previous_level,  // the state of the level before, at the row's position
    own_output  // its own output one position before, which stands for that: to draft past the last level
  };
  /// Computes rows of a level. In level 0 a row's token is the sequence's at that position; in a chained
  /// level k it is the one k further. The caches must hold what comes before: positions 0..p − 1 of this
  /// level, and of what it takes in the row's position. A sequence's rows are given in ascending order.
  ///
  /// Rows go in parts of at most most_few_rows (runtime/operators/linear.h), here and where their logits are
  /// asked for: what a row gives has the same bits whatever rows come with it.
  void forward(int level, std::span<const Row> rows, Input input = Input::previous_level);
  /// Level 0 of many rows, in parts of options.rows: faster, but their bits depend on how they are cut.
  void forward_prompts(std::span<const Row> rows);

  /// Of a pipeline's stages but the last: computes what the last one's decoder does, until that is dismissed.
  void follow();
  /// Of the last stage: nothing more will come. Without a pipeline there is nothing to do.
  void dismiss();

  /// [places, V] on the host, until it is asked for others: logits of the token level + 1 after each place,
  /// whose row was computed. Of a tree's row the place is its cell.
  std::span<const float> logits(int level, std::span<const Place> places);

  /// Chooses after each place the likeliest tokens of these logits, as many as `candidates`, below
  /// `vocabulary`: likeliest first, the lowest of equals first; 0 stands for the model's. Tokens that are
  /// chosen have numbers, from 0 on between two calls of tokens(), a place's one after another; returns the
  /// first. A row of any level may have the token of a number, but for a trunk's over ranks.
  std::int32_t choose(int level, std::span<const Place> places, std::int64_t vocabulary = 0,
                      std::int64_t candidates = 1);
  /// The token of a number, until tokens() tells it.
  static constexpr std::int32_t chosen(std::int32_t number) { return -1 - number; }
  /// Those that were chosen, by their numbers, on the host until the next call. A NumericalError where a
  /// logit is not a number or the largest is not finite.
  std::span<const std::int32_t> tokens();

  struct Move {
    std::int32_t sequence = 0;
    std::int32_t from = 0, to = 0;  // cells
  };
  /// What level 0 keeps of rows moves, one after another. Nothing moves twice.
  void settle(std::span<const Move> moves);

  /// Sends what was noted to the device.
  void start();

 private:
  /// A depth of sequential or parallel heads.
  struct Head {
    std::optional<MtpModule::Weights> module;  // sequential
    CachedBlock block;
    Tensor norm;  // [C]
  };
  bool is_first() const { return !options_.pipeline || options_.pipeline->is_first(); }
  bool is_last() const { return !options_.pipeline || options_.pipeline->is_last(); }
  void plan_trunk();
  /// What comes after the trunk.
  void plan_last();
  void plan_heads();
  /// To the other stages, where this is the last one of a pipeline.
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
  /// How many rows of heads or moves are run in place of so many, the last one again and again, which changes
  /// nothing. They vary from round to round, and on a GPU each number of them is recorded.
  std::int64_t rounded(std::int64_t count) const;

  enum class Work : std::uint8_t { forward, logits, choose, settle };
  /// What is noted.
  struct Pass {
    Work work = Work::forward;
    int level = 0;
    std::int64_t count = 0;  // of rows, places or moves
    Input input = Input::previous_level;
    std::int64_t reach = 0;                   // of paths
    std::int64_t number = 0, vocabulary = 0;  // of the first token that is chosen; to choose from
    std::int64_t candidates = 0;              // that are chosen of each place
    std::int64_t at = 0;                      // its numbers in index_
  };
  /// Place for the pass's numbers.
  std::span<std::int32_t> note(Pass pass, std::int64_t numbers);
  void note_rows(int level, std::span<const Row> rows, Input input);
  /// Of as many places as go together, from `first` on; returns how many.
  std::int64_t note_places(Pass pass, std::span<const Place> places, std::int64_t first);
  /// As many as index_ holds numbers for.
  void note_moves(std::span<const Move> moves);
  void run(const Pass& pass);
  /// [count] of a pass's numbers: the i-th of each row, place or move.
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
  std::unique_ptr<PredictionHeads> small_heads_;  // the other kinds: they need the normed state alone
  LayerContext small_context_;
  Tensor small_input_;          // [m, 1, C]
  std::vector<Tensor> states_;  // by level: [S, P, C]
  Tensor last_input_;           // parallel: [S, P, C] what the trunk's last block takes
  // Of one call:
  CachedBlock::Scratch scratch_;
  Tensor x_;         // [R, C]
  Tensor embedded_;  // [R, C], sequential
  Tensor joined_;    // [R, 2C], sequential
  Tensor gathered_;  // [m, C] of logits that are computed together
  Tensor logits_;    // [m, V]
  Tensor chosen_;    // [2·logits] i32
  // What is noted: of rows tokens, positions, cells, cells of the states taken in, and paths [N, A]; of
  // places cells; of moves cells from which, and to which.
  Tensor index_;  // i32
  std::vector<Pass> passes_, running_;
  std::int64_t noted_ = 0;  // numbers
  struct Choice {
    int level;
    Place place;
  };
  std::vector<Choice> choices_, told_;  // by number; those of the last call of tokens()
  // Page-locked. What is on its way to the device stays as it is: noted numbers come after it.
  Arena host_arena_;
  Tensor host_index_;  // i32
  std::int64_t host_begin_ = 0;
  Tensor host_logits_;  // [logits, V]
  Tensor host_chosen_;  // [2·logits] i32
  Replays replays_;
  Replays::Key key_;
};

}  // namespace foretoken
