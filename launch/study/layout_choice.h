#pragma once
// The settings that scaling.layout = "best" chooses, and the function that chooses them.

#include <algorithm>
#include <array>
#include <functional>
#include <string_view>

#include "launch/config/config.h"
#include "launch/study/scaling.h"

namespace foretoken {

/// Those of PlanLayout (launch/plan/layout_space.h), and the blocks of its stages.
inline constexpr std::array<const char*, 9> layout_settings = {"parallel.pp",
                                                               "parallel.dp",
                                                               "parallel.virtual_stages",
                                                               "parallel.schedule",
                                                               "train.microbatch",
                                                               "train.recompute",
                                                               "parallel.sharded_optimizer",
                                                               "mtp.placement",
                                                               "parallel.blocks_per_stage"};

inline bool is_layout_setting(std::string_view option) {
  return std::find(layout_settings.begin(), layout_settings.end(), option) != layout_settings.end();
}

/// Returns the configuration with the layout for this number of ranks. Throws a UsageError if there is none.
using LayoutChoice = std::function<Config(const ScalingStudy&, const Config&, int ranks)>;

}  // namespace foretoken
