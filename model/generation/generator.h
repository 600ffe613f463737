#pragma once
// Generates text after prompts, several at once. Plain: a round computes every sequence's newest token and
// draws the next. Speculative, where the decoder has prediction heads: a round drafts up to K tokens of each
// sequence with the heads, verifies them all in one pass of the model, and keeps those that verify()
// (model/generation/sampling.h) accepts and one more. The distribution of the text is the same.
//
// Chained heads of D modules draft k ≤ D with module k, as they were trained; past that the last module goes
// on over its own output, one position further each time: hᴰ at a position predicts what hᴰ⁻¹ predicts at the
// next, so that it can stand for it. Their caches are filled over the prompt too. What they computed over
// drafts is computed again over the tokens that were accepted.

#include <functional>

#include "model/generation/decoder.h"
#include "model/generation/sampling.h"

namespace foretoken {

struct GenerationOptions {
  SamplingOptions sampling;
  std::uint64_t seed = 1;
  std::int64_t max_tokens = 128;  // new ones of each prompt, as far as the decoder's positions reach
  std::int64_t vocabulary = 0;    // ids that may be drawn: those that the tokenizer knows
  std::int32_t end = -1;          // the token that ends a text; −1: none
  int speculate = 0;              // K
};

/// In the words of vLLM's metrics. A round here is one sequence's, in which at least one token was drafted.
struct SpeculationStatistics {
  std::int64_t rounds = 0;
  std::int64_t drafted = 0;
  std::int64_t accepted = 0;
  std::vector<std::int64_t> accepted_at;  // [K] rounds in which draft i was accepted

  /// accepted / drafted
  double acceptance_rate() const;
  /// 1 + accepted / rounds: tokens of a round
  double mean_acceptance_length() const;
};

class Generator {
 public:
  /// One prompt for each of the decoder's sequences, which is planned for (K + 1) rows of logits of each. A
  /// UsageError for a prompt that is empty, leaves no position for a new token or holds tokens outside of the
  /// vocabulary.
  Generator(Decoder& decoder, const GenerationOptions& options,
            std::vector<std::vector<std::int32_t>> prompts);

  /// Takes new tokens of a sequence, the end token among them; false: it is not to go on.
  using OnTokens = std::function<bool(std::size_t sequence, std::span<const std::int32_t> tokens)>;
  /// Adds to every sequence that is not finished; false where all are.
  bool round(const OnTokens& on_tokens);

  bool finished(std::size_t sequence) const { return sequences_[sequence].finished; }
  /// Prompt and new tokens.
  std::span<const std::int32_t> text(std::size_t sequence) const { return sequences_[sequence].text; }
  std::int64_t new_tokens() const;
  const SpeculationStatistics& statistics() const { return statistics_; }

 private:
  struct Sequence {
    std::int32_t index = 0;
    std::vector<std::int32_t> text;
    std::size_t prompt = 0;  // tokens of it
    std::size_t limit = 0;   // tokens of the text, at most
    SequenceRng rng;
    std::vector<std::int64_t> computed;  // by level: positions whose rows stay valid
    std::vector<Draft> drafts;           // of the round
    bool finished = false;
  };
  void draft(std::vector<Sequence*>& active);
  void draft_one(const std::vector<Sequence*>& drafting, int depth);
  /// Computes the trunk over what is new and the drafts; returns the rows whose logits are wanted.
  std::vector<Decoder::Place> run_trunk(const std::vector<Sequence*>& active);
  void take(Sequence& sequence, const Verdict& verdict, const OnTokens& on_tokens);
  int drafts_of(const Sequence& sequence) const;
  std::vector<double> next(const Sequence& sequence, std::size_t drafts, std::span<const float> logits) const;

  Decoder& decoder_;
  GenerationOptions options_;
  std::vector<Sequence> sequences_;
  SpeculationStatistics statistics_;
};

}  // namespace foretoken
