#pragma once
// What a level of the decoder has after rows: logits, or, where nothing else is asked for, the likeliest
// token alone, so that the logits stay where they are. That token may be one to come (Decoder::choose()).

#include <span>

#include "model/generation/decoder.h"

namespace foretoken {

struct Prediction {
  std::span<const float> logits;  // [V], or empty
  std::int32_t likeliest = -1;    // where there are no logits
};

class Predictions {
 public:
  /// Of the decoder, until its next call.
  Predictions(Decoder& decoder, int level, std::span<const Decoder::Place> places, bool likeliest_alone,
              std::int64_t vocabulary) {
    if (likeliest_alone)
      first_ = decoder.choose(level, places, vocabulary);
    else
      logits_ = decoder.logits(level, places);
    width_ = logits_.size() / places.size();
  }
  /// The decoder's tokens have come.
  void learn(std::span<const std::int32_t> tokens) { tokens_ = tokens; }

  Prediction operator[](std::size_t row) const {
    if (!logits_.empty()) return {.logits = logits_.subspan(row * width_, width_)};
    const std::int32_t number = first_ + static_cast<std::int32_t>(row);
    return {
        .logits = {},
        .likeliest = tokens_.empty() ? Decoder::chosen(number) : tokens_[static_cast<std::size_t>(number)]};
  }

 private:
  std::span<const float> logits_;
  std::int32_t first_ = 0;
  std::span<const std::int32_t> tokens_;
  std::size_t width_ = 0;
};

/// Those after a text, first, and after each of its drafts in order.
class DraftPredictions {
 public:
  DraftPredictions(const Predictions& all, std::size_t first) : all_(all), first_(first) {}
  /// −1: after the text.
  Prediction operator[](std::int32_t draft) const {
    return all_[first_ + static_cast<std::size_t>(draft + 1)];
  }

 private:
  const Predictions& all_;
  std::size_t first_;
};

}  // namespace foretoken
