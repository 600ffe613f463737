#pragma once
// What is reported of prediction heads beside their losses.

#include "io/metrics.h"
#include "model/step_sums.h"

namespace foretoken {

/// From sums over the whole global batch, on the host; norms and cosines where gradients were measured.
HeadsMetrics heads_metrics(const StepSums& sums, bool gradients);

}  // namespace foretoken
