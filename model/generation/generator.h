#pragma once
// Generates text after prompts, several at once. Plain: a round computes every sequence's newest token and
// chooses the next. Speculative, where there is a drafter: it drafts how each text may go on
// (model/generation/drafter.h), one pass of the model runs over all drafts, and those that hold become text
// with one token more (model/generation/verification.h).

#include <functional>
#include <optional>

#include "model/generation/draft_length.h"
#include "model/generation/drafter.h"
#include "model/generation/verification.h"

namespace foretoken {

struct GenerationOptions {
  SamplingOptions sampling;
  std::uint64_t seed = 1;
  std::int64_t max_tokens = 128;  // new ones of each prompt, as far as the decoder's positions reach
  std::int64_t vocabulary = 0;    // ids that may be chosen: those that the tokenizer knows
  std::int32_t end = -1;          // the token that ends a text; −1: none
  TreeShape drafts;               // of a round, as deep as the drafter goes; empty: plain
  /// Takes the likeliest candidates as a whole (best_candidate()): another text than the plain one. For
  /// greedy sampling alone.
  bool keep_best = false;
};

/// In the words of vLLM's metrics. A round here is one sequence's, in which at least one token was drafted.
struct SpeculationStatistics {
  std::int64_t rounds = 0;
  std::int64_t plain_rounds = 0;          // of texts that had room for drafts
  std::int64_t drafted = 0;               // all nodes of trees
  std::int64_t accepted = 0;              // drafts that became text: none past its end
  std::vector<std::int64_t> drafted_at;   // by depth: rounds that drafted so far
  std::vector<std::int64_t> accepted_at;  // by depth: rounds that accepted so far

  /// accepted / drafted
  double acceptance_rate() const;
  /// 1 + accepted / rounds: tokens of a round
  double mean_acceptance_length() const;
};

class Generator {
 public:
  /// One prompt for each of the decoder's sequences, which is planned for 1 + drafts_in(options.drafts) rows
  /// of logits of each and branches_of() them. Without a drafter generation is
  /// plain; without `length` every round drafts as deep as options.drafts. A UsageError for a prompt that is
  /// empty, leaves no position for a new token or holds tokens outside of the vocabulary.
  Generator(Decoder& decoder, const GenerationOptions& options,
            std::vector<std::vector<std::int32_t>> prompts, Drafter* drafter = nullptr,
            DraftLength* length = nullptr);

  /// Receives the new tokens of a sequence, the end token included. No value: the text continues. A value:
  /// how many of these tokens belong to the text, which ends after them; the others are dropped, so that a
  /// text and what is counted do not depend on how many tokens a round adds.
  using OnTokens =
      std::function<std::optional<std::size_t>(std::size_t sequence, std::span<const std::int32_t> tokens)>;
  /// Adds to every sequence that is not finished; false where all are.
  bool round(const OnTokens& on_tokens);

  bool finished(std::size_t sequence) const { return texts_[sequence].finished; }
  /// Prompt and new tokens.
  std::span<const std::int32_t> text(std::size_t sequence) const { return texts_[sequence].tokens; }
  std::int64_t new_tokens() const;
  const SpeculationStatistics& statistics() const { return statistics_; }

 private:
  bool is_first_round() const { return computed_[static_cast<std::size_t>(active_.front()->sequence)] == 0; }
  void draft();
  void learn_drafts(std::span<const std::int32_t> tokens);
  /// Computes the trunk over what is new and the drafts; returns what it has after each.
  Predictions run_trunk();
  void judge_all(const Predictions& model);
  Verdict judge(const GeneratedText& text, const DraftPredictions& model, TokenChooser& chooser) const;
  /// Returns how many tokens the text got.
  std::size_t take(GeneratedText& text, const Verdict& verdict, const OnTokens& on_tokens);
  void count_plain(const GeneratedText& text);
  void count_drafts(const GeneratedText& text, const Verdict& verdict, std::size_t taken);

  Decoder& decoder_;
  GenerationOptions options_;
  TokenChoosers choosers_;
  Drafter* drafter_;
  DraftLength* length_;
  std::vector<GeneratedText> texts_;
  std::vector<std::int32_t> computed_;  // by sequence: the trunk's rows of the text
  SpeculationStatistics statistics_;
  // Of a round:
  std::vector<GeneratedText*> active_;
  DraftRows rows_;
  std::vector<Decoder::Place> places_;
  std::vector<Verdict> verdicts_;  // of active_
  std::vector<Decoder::Move> moves_;
  std::vector<std::int32_t> added_;
};

}  // namespace foretoken
