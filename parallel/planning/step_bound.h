#pragma once
// A lower bound of the time of a pipeline program, over all partitions of the layers. It needs no simulation,
// so that a comparison of many layouts can leave out those that cannot be among the fastest.

#include "parallel/pipeline/program.h"
#include "parallel/planning/partition.h"

namespace foretoken {

struct BoundedProgram {
  PipelineShape shape;
  bool split_backward = false;  // splits_backward() of the schedule (parallel/pipeline/schedules.h)
  double message = 0;           // least time of a message, in the unit of the costs
};

/// No program of this shape ends earlier, whatever the partition within range_of_halves() and the order of
/// the actions on a rank. Rank r starts when the first microbatch has passed stages 0 to r − 1. It computes
/// all microbatches on its stages. After its last backward, the gradient passes stages r − 1 to 0. With one
/// stage per rank the bound is the smallest time in which all ranks can keep to this. With several, the mean
/// over the ranks is taken, and stages before the ranks' first have their fewest halves. Throws UsageError
/// like require_enough_layers().
double least_program_time(const LayerCosts& costs, const BoundedProgram& program);

}  // namespace foretoken
