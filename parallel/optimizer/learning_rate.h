#pragma once
// Learning-rate schedules: functions of the step t = 1, 2, … only.

#include <cstdint>

namespace foretoken {

/// With peak p, floor m = min_ratio·p, w warm-up, d decay and S total steps:
///
///   t ≤ w      p · t/w                                                          (all shapes)
///   constant   p
///   cosine     m + (p − m) · ½(1 + cos(π · min(1, (t − w)/d)))
///   wsd        p up to S − d, then linearly to m at S: p − (p − m) · (t − (S − d))/d; m after S
///              (warm-up, stable, decay: Hu et al., "MiniCPM", 2024)
struct LearningRate {
  enum class Shape : std::uint8_t { constant, cosine, wsd };

  Shape shape = Shape::cosine;
  double peak = 3e-4;
  double min_ratio = 0.1;
  std::int64_t warmup_steps = 0;
  std::int64_t decay_steps = 1;  // unused by constant
  std::int64_t total_steps = 1;  // used by wsd only
};

/// Throws UsageError that names the invalid value.
void validate(const LearningRate& schedule);

double learning_rate(const LearningRate& schedule, std::int64_t step);

}  // namespace foretoken
