#pragma once
// Assigns layers to stages by the time of a training step. The pipeline program determines that time, not the
// bottleneck stage alone: the first and last stages wait for each other while the pipeline fills and drains,
// and a rank may hold several stages.

#include <string_view>
#include <vector>

#include "parallel/pipeline/program.h"
#include "parallel/planning/partition.h"

namespace foretoken {

/// Returns the number of halves of each stage, within the limits of partition_layers(), that minimizes the
/// simulated step time of the schedule. The simulation takes messages as free. If there are too many
/// partitions to try, the result is the best that a random walk finds (threshold accepting: Dueck and
/// Scheuer, J. Comput. Phys. 90, 1990), usually the optimum. The result is the same on every rank and in
/// every run. A simulation of more than two million compute actions would take seconds; if the simulated part
/// of a step (a limited number of microbatches) has more, the function returns the result of
/// partition_layers().
///
/// Step times within 0.1 % of the best count as equal: among such partitions it returns one by the rules of
/// partition_layers() (fewest cuts inside layers, most even counts, fewer halves on earlier stages). Throws
/// UsageError like partition_layers() and make_program() (parallel/pipeline/schedules.h).
std::vector<int> partition_for_step(const LayerCosts& costs, std::string_view schedule,
                                    const PipelineShape& shape);

/// Simulated step time of a partition, in the unit of the costs. Messages are free.
double step_length(const LayerCosts& costs, std::string_view schedule, const PipelineShape& shape,
                   const std::vector<int>& halves);

}  // namespace foretoken
