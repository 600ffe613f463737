#pragma once
// Metrics of prediction heads in addition to their losses.

#include "io/report/metrics.h"
#include "model/step_sums.h"

namespace foretoken {

/// Computes the metrics from the step's sums over the global batch. `gradients`: gradients were measured too;
/// otherwise norms and cosines stay empty.
HeadsMetrics heads_metrics(const StepSums& sums, bool gradients);

}  // namespace foretoken
