#pragma once
// The command line that trains a point of a study.

#include <string>

#include "launch/study/sweep.h"

namespace foretoken {

/// A shell line: the study's launcher, this program, and the point's folder.
std::string point_command(const Sweep& sweep, const SweepPoint& point);

}  // namespace foretoken
