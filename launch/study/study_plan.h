#pragma once
// What `foretoken plan` predicts for the points of a scaling study.

#include "launch/study/layout_choice.h"
#include "launch/study/sweep.h"

namespace foretoken {

/// A LayoutChoice: the fastest planned layout that fits into the device's memory. Settings that --set fixes
/// keep their values.
Config best_layout(const ScalingStudy& scaling, const Config& config, int ranks);

/// The device whose rates the plan uses: "h200"; empty: that of the profile. Throws a UsageError if
/// scaling.device is unknown.
std::string planned_device(const ScalingStudy& scaling, const Config& config);
/// The device and the profiles as flags of `foretoken plan`: " --gpu h200 --profile profile.json".
std::string plan_flags(const ScalingStudy& scaling, const Config& config);

/// Sets SweepPoint::planned or SweepPoint::unplanned of every legal point. Throws a UsageError if
/// scaling.device is unknown.
void plan_points(Sweep& sweep);

}  // namespace foretoken
