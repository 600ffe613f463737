#pragma once
// A decoder level's predictions of the tokens after given rows: logits or, if they suffice, the likeliest
// tokens, so that the logits stay on the device. Until Predictions::resolve()
// these tokens are placeholders (Decoder::chosen()).

#include <algorithm>
#include <span>

#include "model/decoder/decoder.h"

namespace foretoken {

struct Prediction {
  std::span<const float> logits;  // [V], or empty
  std::int32_t likeliest = -1;    // set if there are no logits
  int candidates = 1;             // while likeliest is a placeholder, likeliest − i is that of candidate i
};

/// The slots must be in ascending order of sequence and must outlive the object.
class Predictions {
 public:
  /// Predictions with logits.
  Predictions(Decoder& decoder, int level, std::span<const CacheSlot> slots)
      : slots_(slots), logits_(decoder.logits(level, slots)), width_(logits_.size() / slots.size()) {}
  /// Predictions of the likeliest tokens below `vocabulary`, without logits.
  Predictions(Decoder& decoder, int level, std::span<const CacheSlot> slots, std::int64_t vocabulary,
              int candidates)
      : slots_(slots),
        candidates_(static_cast<int>(std::min<std::int64_t>(candidates, vocabulary))),
        first_(decoder.choose(level, slots, vocabulary, candidates_)) {}
  /// Minimum number of texts per thread for which choosing tokens in parallel is worthwhile.
  std::int64_t texts_per_thread() const {
    constexpr std::int64_t logits = 32768;  // about as much work as waking a thread
    constexpr std::int64_t all = 1 << 30;   // one thread takes all texts
    return width_ == 0 ? all : 1 + logits / static_cast<std::int64_t>(width_);
  }
  /// Receives the decoder's tokens (Decoder::tokens()).
  void resolve(std::span<const std::int32_t> tokens) { tokens_ = tokens; }

  /// Index, for operator[], of the first of the constructor's slots that belongs to the sequence.
  std::size_t first_of(std::int32_t sequence) const {
    const auto first = std::ranges::lower_bound(slots_, sequence, {}, &CacheSlot::sequence);
    return static_cast<std::size_t>(first - slots_.begin());
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
  std::span<const CacheSlot> slots_;
  std::span<const float> logits_;
  std::size_t width_ = 0;
  int candidates_ = 1;
  std::int32_t first_ = 0;
  std::span<const std::int32_t> tokens_;
};

/// The predictions after one text and after each of its drafts.
class DraftPredictions {
 public:
  DraftPredictions(const Predictions& all, std::int32_t sequence)
      : all_(all), first_(all.first_of(sequence)) {}
  /// The prediction after this draft; −1: after the text.
  Prediction operator[](std::int32_t draft) const {
    return all_[first_ + static_cast<std::size_t>(draft + 1)];
  }

 private:
  const Predictions& all_;
  std::size_t first_;
};

}  // namespace foretoken
