#pragma once
// The device profile that a run's folder keeps, so that a resumed run assigns layers to stages as before.

#include <string>

#include "launch/config/config.h"
#include "launch/console/console.h"
#include "parallel/comm/communicator.h"

namespace foretoken {

/// Loads the profile of a run's settings (launch/session/profile_on_ranks.h). A run that resumes `resume` (a
/// run or a checkpoint; empty: a new run) loads the copy in its folder, whatever has become of the original;
/// --set parallel.profile names another file, and a warning says if its times differ. Collective.
void load_run_profile(Config& config, const std::string& resume, Communicator& world, Console& console);

/// Keeps the loaded profile in the run's folder, or removes an earlier one if the run has none. Collective.
void keep_profile(const Config& config, const std::string& run, Communicator& world);

}  // namespace foretoken
