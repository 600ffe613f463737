#pragma once
// Generates text after several prompts at once. A plain round computes every sequence's newest token and
// chooses the next. With a drafter, generation is speculative: the drafter drafts how each text may continue
// (model/generation/drafter.h), one pass of the model runs over all drafts, and the accepted ones become
// text together with one more token (model/generation/verification.h).

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
  std::int64_t vocabulary = 0;    // ids that may be chosen: those of the tokenizer
  std::int32_t end = -1;          // the token that ends a text; −1: none
  TreeShape drafts;               // per round, as deep as the drafter allows; empty: plain
  /// Accepts the candidate that is likeliest as a whole (best_candidate()), so the text differs from plain
  /// decoding. Requires greedy sampling.
  bool keep_best = false;
};

/// Named as in vLLM's metrics. A round counts per sequence and drafts at least one token.
struct SpeculationStatistics {
  std::int64_t rounds = 0;
  std::int64_t plain_rounds = 0;          // rounds without a draft, of texts that had room for one
  std::int64_t drafted = 0;               // all nodes of trees
  std::int64_t accepted = 0;              // drafts that became text; drafts after its end are excluded
  std::vector<std::int64_t> drafted_at;   // by depth: rounds that drafted at least this deep
  std::vector<std::int64_t> accepted_at;  // by depth: rounds that accepted at least this deep

  /// accepted / drafted
  double acceptance_rate() const;
  /// 1 + accepted / rounds: tokens per round
  double mean_acceptance_length() const;
  /// accepted_at / drafted_at, for the depths that were drafted.
  std::vector<double> acceptance_by_depth() const;
  /// Adds the counts of other sequences or prompts.
  SpeculationStatistics& operator+=(const SpeculationStatistics& other);
};

class Generator {
 public:
  /// Takes one prompt for each of the decoder's sequences. The decoder must be planned for 1 +
  /// drafts_in(options.drafts) rows of logits and branches_of(options.drafts) branches per sequence. Without
  /// a drafter generation is plain; without `length` every round drafts as deep as options.drafts. Throws a
  /// UsageError for a prompt that is empty, leaves no position for a new token or has tokens outside the
  /// vocabulary.
  Generator(Decoder& decoder, const GenerationOptions& options,
            std::vector<std::vector<std::int32_t>> prompts, Drafter* drafter = nullptr,
            DraftLength* length = nullptr);

  /// Receives a sequence's new tokens, the end token included. Returns no value if the text continues.
  /// Returns a value if the text ends: the number of these tokens that belong to it. The others are dropped,
  /// so neither the text nor the statistics depend on how many tokens a round adds.
  using OnTokens =
      std::function<std::optional<std::size_t>(std::size_t sequence, std::span<const std::int32_t> tokens)>;
  /// Runs a round for every unfinished sequence; returns false if all are finished.
  bool round(const OnTokens& on_tokens);

  bool finished(std::size_t sequence) const { return texts_[sequence].finished; }
  /// Prompt and new tokens.
  std::span<const std::int32_t> text(std::size_t sequence) const { return texts_[sequence].tokens; }
  /// Of one sequence, and of all.
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
  /// Runs the trunk over the new tokens and the drafts; returns its predictions after each.
  Predictions run_trunk();
  void judge_all(const Predictions& model);
  Verdict judge(const GeneratedText& text, const DraftPredictions& model, TokenChooser& chooser) const;
  /// Returns the number of tokens added to the text.
  std::size_t take(GeneratedText& text, const Verdict& verdict, const OnTokens& on_tokens);
  void count_plain(const GeneratedText& text);
  void count_drafts(const GeneratedText& text, const Verdict& verdict, std::size_t taken);

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
  std::vector<Verdict> verdicts_;  // of active_
  std::vector<SlotMove> moves_;
  std::vector<std::int32_t> added_;
};

}  // namespace foretoken
