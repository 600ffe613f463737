#pragma once
// What a scaling study varies: the same training on several numbers of ranks (launch/study/scaling_section.h
// describes its table in the sweep file).

#include <cstdint>
#include <vector>

namespace foretoken {

struct ScalingStudy {
  enum class Mode { strong, weak };
  Mode mode = Mode::strong;
  std::vector<int> ranks;  // ascending
  bool best_layout = false;
  int repeats = 3;
  std::int64_t warmup_steps = 5;
};
constexpr const char* name_of(ScalingStudy::Mode mode) {
  return mode == ScalingStudy::Mode::strong ? "strong" : "weak";
}

}  // namespace foretoken
