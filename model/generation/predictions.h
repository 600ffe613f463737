#pragma once
// What a level of the decoder has after rows: logits, or, where nothing else is asked for, the likeliest
// token alone, so that the logits stay where they are.

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
      likeliest_ = decoder.argmax(level, places, vocabulary);
    else
      logits_ = decoder.logits(level, places);
    width_ = logits_.size() / places.size();
  }

  Prediction operator[](std::size_t row) const {
    if (logits_.empty()) return {.logits = {}, .likeliest = likeliest_[row]};
    return {.logits = logits_.subspan(row * width_, width_)};
  }

 private:
  std::span<const float> logits_;
  std::span<const std::int32_t> likeliest_;
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
