#pragma once
// Assigns layers to stages by the time of a training step. The pipeline program determines that time, not the
// bottleneck stage alone: the first and last stages wait for each other while the pipeline fills and drains,
// and a rank may hold several stages.

#include <string_view>
#include <vector>

#include "parallel/partition.h"
#include "parallel/program.h"

namespace foretoken {

/// The number of halves of every stage, within the limits of partition_layers(), such that the schedule's
/// step is as short as possible when simulated, messages free. Where there are too many partitions to try, it
/// is the best that a random walk finds (threshold accepting: Dueck and Scheuer, J. Comput. Phys. 90, 1990),
/// mostly the best of all, and the same on every rank and in every run. A pipeline of more than two million
/// actions, whose simulation takes seconds, gets the partition of partition_layers().
///
/// A thousandth of the step counts as nothing: of partitions so near to the best it takes one by the rules of
/// partition_layers(), fewest cuts inside layers, most even in counts, fewer halves on earlier stages.
/// A UsageError as partition_layers() and make_program() (parallel/schedules.h).
std::vector<int> partition_for_step(const LayerCosts& costs, std::string_view schedule,
                                    const PipelineShape& shape);

/// Length of a simulated step of a partition, in the unit of the costs, messages free.
double step_length(const LayerCosts& costs, std::string_view schedule, const PipelineShape& shape,
                   const std::vector<int>& halves);

}  // namespace foretoken
