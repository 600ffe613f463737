#pragma once
// The state of a text that is being generated, and the choice of its tokens, for the model and for drafters.

#include <cstdint>
#include <span>
#include <vector>

#include "model/generation/draft_tree.h"
#include "model/generation/predictions.h"
#include "model/generation/sampling.h"

namespace foretoken {

struct GeneratedText {
  std::int32_t sequence = 0;
  std::vector<std::int32_t> tokens;  // prompt and new tokens
  std::size_t prompt = 0;            // number of prompt tokens
  std::size_t limit = 0;             // maximum number of tokens
  SequenceRng rng;
  DraftTree drafts;  // drafts of the current round
  bool finished = false;

  std::int32_t size() const { return static_cast<std::int32_t>(tokens.size()); }
  /// Maximum draft depth. Every round adds one token after the drafts, so one position is left for it.
  int room() const { return static_cast<int>(limit - tokens.size()) - 1; }
};

class TokenChooser {
 public:
  /// `vocabulary`: only ids below it may be chosen.
  TokenChooser(const SamplingOptions& sampling, std::int64_t vocabulary)
      : sampling_(sampling), vocabulary_(static_cast<std::size_t>(vocabulary)) {}

  bool greedy() const { return sampling_.temperature == 0; }
  /// Predictions after the slots, to choose up to `count` tokens from each: the likeliest tokens if they
  /// suffice, otherwise logits.
  Predictions predictions(Decoder& decoder, int level, std::span<const CacheSlot> slots, int count) const {
    if (!greedy() || sampling_.repetition_penalty != 1) return {decoder, level, slots};
    return {decoder, level, slots, static_cast<std::int64_t>(vocabulary_), count};
  }

  /// The likeliest token after a draft; −1: after the text.
  std::int32_t likeliest(const GeneratedText& text, std::int32_t draft, const Prediction& model);
  /// The distribution [V] of the token after a draft, valid until the next call.
  std::span<double> distribution(const GeneratedText& text, std::int32_t draft, const Prediction& model);
  /// ln p [V] of every token after a draft, without temperature, top_k, top_p and min_p.
  std::vector<double> log_likelihoods(const GeneratedText& text, std::int32_t draft, const Prediction& model);

  /// Adds up to `count` children to a draft: the likeliest tokens or, if tokens are sampled, tokens drawn
  /// from the distribution without replacement.
  void add_drafts(GeneratedText& text, std::int32_t draft, int count, const Prediction& model);

 private:
  struct Taken {
    std::int32_t token = 0;
    double weight = 0;
  };

  void distribution(const GeneratedText& text, std::int32_t draft, const Prediction& model,
                    std::vector<double>& p);
  /// The tokens of the text, of the draft's ancestors and of the draft; without a penalty only the text.
  std::span<const std::int32_t> text_to(const GeneratedText& text, std::int32_t draft);
  std::span<const float> penalised(const GeneratedText& text, std::int32_t draft,
                                   std::span<const float> logits);

  SamplingOptions sampling_;
  std::size_t vocabulary_;
  std::vector<float> penalised_;
  std::vector<double> distribution_;
  std::vector<std::int32_t> seen_, chosen_;
  std::vector<Taken> taken_;
};

/// One chooser per sequence, so that texts can be processed in parallel.
class TokenChoosers {
 public:
  TokenChoosers(const SamplingOptions& sampling, std::int64_t vocabulary, std::size_t sequences)
      : choosers_(sequences, {sampling, vocabulary}) {}

  bool greedy() const { return choosers_.front().greedy(); }
  Predictions predictions(Decoder& decoder, int level, std::span<const CacheSlot> slots, int count) const {
    return choosers_.front().predictions(decoder, level, slots, count);
  }
  /// Calls choose(i, chooser) for each text, on several threads if that is faster
  /// (Predictions::texts_per_thread()). `choose` may change only text i.
  template <class Choose>
  void for_each(std::span<GeneratedText* const> texts, const Predictions& predictions, ThreadPool& threads,
                const Choose& choose) {
    threads.parallel_for(
        std::ssize(texts), predictions.texts_per_thread(), [&](std::int64_t begin, std::int64_t end) {
          for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
            choose(i, choosers_[static_cast<std::size_t>(texts[i]->sequence)]);
        });
  }

 private:
  std::vector<TokenChooser> choosers_;
};

}  // namespace foretoken
