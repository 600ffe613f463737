#pragma once
// What a scaling study varies: the same training on several numbers of ranks (launch/study/scaling_section.h
// describes its table in the sweep file).

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace foretoken {

struct ScalingStudy {
  enum class Mode { strong, weak };
  Mode mode = Mode::strong;
  std::vector<int> ranks;      // ascending
  std::vector<int> projected;  // numbers of ranks that are planned and not run; ascending
  bool best_layout = false;
  std::string device;  // whose rates the plan uses, of launch/plan/device_rates.h; empty: by run.device
  std::vector<std::string> profiles;  // files of plan --measure and doctor --save, in place of the rates
  int per_node = 8;                   // ranks of a node in the plan
  int repeats = 3;
  std::int64_t warmup_steps = 5;
};
constexpr const char* name_of(ScalingStudy::Mode mode) {
  return mode == ScalingStudy::Mode::strong ? "strong" : "weak";
}

/// The step that launch/plan predicts, in milliseconds.
struct PlannedStep {
  double total = 0, compute = 0, bubble = 0, communication = 0, optimizer = 0;
  double tokens_per_second = 0;
  std::size_t memory_bytes = 0;  // of the fullest rank
};

}  // namespace foretoken
