#pragma once
// Generates text after several prompts together. Without a drafter, a round computes every sequence's newest
// token and chooses the next one. With a drafter, generation is speculative: a round drafts several tokens
// per sequence (model/generation/drafter.h) and verifies all drafts in one pass of the model. The accepted
// drafts become text, followed by one more token (model/generation/verification.h).

#include <functional>
#include <optional>

#include "model/generation/draft_length.h"
#include "model/generation/drafter.h"
#include "model/generation/verification.h"

namespace foretoken {

struct GenerationOptions {
  SamplingOptions sampling;
  std::uint64_t seed = 1;
  std::int64_t max_tokens = 128;  // new tokens per prompt; the decoder's positions may end a text earlier
  std::int64_t vocabulary = 0;    // only smaller ids may be chosen: the size of the tokenizer
  std::int32_t end = -1;          // the token that ends a text; −1: none
  TreeShape drafts;               // per round, cut to the drafter's longest(); empty: no speculation
  /// Accepts the branch with the largest joint probability (best_candidate()), so the text differs from
  /// greedy decoding. Requires temperature 0.
  bool keep_best = false;
};

/// Names follow vLLM's metrics. A round counts once per sequence that drafts at least one token in it.
struct SpeculationStatistics {
  std::int64_t rounds = 0;
  std::int64_t plain_rounds = 0;          // rounds without a draft although the text had room for one
  std::int64_t drafted = 0;               // drafted tokens: all nodes of the trees
  std::int64_t accepted = 0;              // drafts that became text; drafts after its end are excluded
  std::vector<std::int64_t> drafted_at;   // by depth: rounds that drafted to this depth or deeper
  std::vector<std::int64_t> accepted_at;  // by depth: rounds that accepted to this depth or deeper

  /// accepted / drafted
  double acceptance_rate() const;
  /// Tokens per round: 1 + accepted / rounds
  double mean_acceptance_length() const;
  /// accepted_at / drafted_at, for the depths that were drafted.
  std::vector<double> acceptance_by_depth() const;
  /// Adds the counts of other sequences or prompts.
  SpeculationStatistics& operator+=(const SpeculationStatistics& other);
};

class Generator {
 public:
  /// `prompts` has one prompt per sequence, at most as many as the decoder has sequences. The decoder must be
  /// planned for 1 + drafts_in(options.drafts) rows of logits and branches_of(options.drafts) branches per
  /// sequence. Without a drafter, generation is not speculative. Without `length`, every round drafts to the
  /// full depth of options.drafts. Throws a UsageError for a prompt that is empty, leaves no position for a
  /// new token or has tokens outside the vocabulary.
  Generator(Decoder& decoder, const GenerationOptions& options,
            std::vector<std::vector<std::int32_t>> prompts, Drafter* drafter = nullptr,
            DraftLength* length = nullptr);

  /// Receives a sequence's new tokens, the end token included. Returns no value if the text continues. If the
  /// text ends, it returns the number of these tokens that belong to the text. The others are dropped, so
  /// neither the text nor the statistics depend on the number of tokens that a round adds.
  using OnTokens =
      std::function<std::optional<std::size_t>(std::size_t sequence, std::span<const std::int32_t> tokens)>;
  /// Runs a round for every unfinished sequence; returns false if all are finished.
  bool round(const OnTokens& on_tokens);

  bool finished(std::size_t sequence) const { return texts_[sequence].finished; }
  /// Prompt and new tokens.
  std::span<const std::int32_t> text(std::size_t sequence) const { return texts_[sequence].tokens; }
  // Number of new tokens of one sequence, and of all.
  std::int64_t new_tokens(std::size_t sequence) const;
  std::int64_t new_tokens() const;
  bool speculates() const { return !options_.drafts.empty(); }
  const SpeculationStatistics& statistics(std::size_t sequence) const { return statistics_[sequence]; }
  /// The sum over all sequences.
  SpeculationStatistics statistics() const;

 private:
  bool is_first_round() const { return computed_[static_cast<std::size_t>(active_.front()->sequence)] == 0; }
  void draft();
  void resolve_drafts(std::span<const std::int32_t> tokens);
  /// Computes the new tokens and the drafts in the trunk; returns the predictions after each.
  Predictions run_trunk();
  void verify_all(const Predictions& model);
  Verification verify_drafts(const GeneratedText& text, const DraftPredictions& model,
                             TokenChooser& chooser) const;
  /// Returns the number of tokens added to the text.
  std::size_t take(GeneratedText& text, const Verification& verification, const OnTokens& on_tokens);
  void count_plain(const GeneratedText& text);
  void count_drafts(const GeneratedText& text, const Verification& verification, std::size_t taken);

  Decoder& decoder_;
  GenerationOptions options_;
  TokenChoosers choosers_;
  Drafter* drafter_;
  DraftLength* length_;
  std::vector<GeneratedText> texts_;
  std::vector<std::int32_t> computed_;  // by sequence: rows of the text that the trunk has computed
  std::vector<SpeculationStatistics> statistics_;  // by sequence
  // Buffers of a round:
  std::vector<GeneratedText*> active_;
  DraftRows rows_;
  std::vector<CacheSlot> slots_;
  std::vector<Verification> verifications_;  // one per text in active_
  std::vector<SlotMove> moves_;
  std::vector<std::int32_t> added_;
};

}  // namespace foretoken
