#pragma once
// The page of runs.

#include <string>
#include <vector>

#include "launch/report/reported_run.h"

namespace foretoken {

/// The whole page (HTML). Needs at least one run; the first one gives the title.
std::string run_page(const std::vector<ReportedRun>& runs);

}  // namespace foretoken
