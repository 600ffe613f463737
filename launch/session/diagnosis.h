#pragma once
// Metrics of prediction heads in addition to their losses.

#include "io/report/metrics.h"
#include "model/step_sums.h"

namespace foretoken {

/// Computes them from sums over the whole global batch, on the host; norms and cosines only if `gradients`,
/// that is, if gradients were measured.
HeadsMetrics heads_metrics(const StepSums& sums, bool gradients);

}  // namespace foretoken
