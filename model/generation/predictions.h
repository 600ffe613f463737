#pragma once
// What a level of the decoder has after rows: logits, or, where nothing else is asked for, the likeliest
// tokens alone, so that the logits stay where they are. Those may be tokens to come (Decoder::choose()).

#include <algorithm>
#include <span>

#include "model/generation/decoder.h"

namespace foretoken {

struct Prediction {
  std::span<const float> logits;  // [V], or empty
  std::int32_t likeliest = -1;    // where there are no logits
  int candidates = 1;             // of a token to come: so many numbers, likeliest first
};

/// Sequences come in ascending order, each one's places side by side; the places stay the caller's.
class Predictions {
 public:
  /// The logits.
  Predictions(Decoder& decoder, int level, std::span<const Decoder::Place> places)
      : places_(places), logits_(decoder.logits(level, places)), width_(logits_.size() / places.size()) {}
  /// The likeliest tokens below `vocabulary`.
  Predictions(Decoder& decoder, int level, std::span<const Decoder::Place> places, std::int64_t vocabulary,
              int candidates)
      : places_(places),
        candidates_(static_cast<int>(std::min<std::int64_t>(candidates, vocabulary))),
        first_(decoder.choose(level, places, vocabulary, candidates_)) {}
  /// So many texts at least are worth a thread of their own to choose tokens for.
  std::int64_t texts_of_a_thread() const {
    constexpr std::int64_t logits = 32768, all = 1 << 30;  // as long as it takes a thread to wake
    return width_ == 0 ? all : 1 + logits / static_cast<std::int64_t>(width_);
  }
  /// The decoder's tokens have come.
  void learn(std::span<const std::int32_t> tokens) { tokens_ = tokens; }

  /// The row of a sequence's first place.
  std::size_t first_of(std::int32_t sequence) const {
    const auto first = std::ranges::lower_bound(places_, sequence, {}, &Decoder::Place::sequence);
    return static_cast<std::size_t>(first - places_.begin());
  }
  Prediction operator[](std::size_t row) const {
    if (width_ > 0) return {.logits = logits_.subspan(row * width_, width_)};
    const std::int32_t number = first_ + static_cast<std::int32_t>(row) * candidates_;
    return {
        .logits = {},
        .likeliest = tokens_.empty() ? Decoder::chosen(number) : tokens_[static_cast<std::size_t>(number)],
        .candidates = candidates_};
  }

 private:
  std::span<const Decoder::Place> places_;
  std::span<const float> logits_;
  std::size_t width_ = 0;
  int candidates_ = 1;
  std::int32_t first_ = 0;
  std::span<const std::int32_t> tokens_;
};

/// Those after a text, first, and after each of its drafts in order.
class DraftPredictions {
 public:
  DraftPredictions(const Predictions& all, std::int32_t sequence)
      : all_(all), first_(all.first_of(sequence)) {}
  /// −1: after the text.
  Prediction operator[](std::int32_t draft) const {
    return all_[first_ + static_cast<std::size_t>(draft + 1)];
  }

 private:
  const Predictions& all_;
  std::size_t first_;
};

}  // namespace foretoken
