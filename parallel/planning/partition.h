#pragma once
// The partition of layers into stages: contiguous runs of half layers, assigned by cost, not by count.
//
// A decoder layer is two residual steps, attention and MLP. Only the residual stream passes between the two
// halves, as between two layers, so a stage may start and end with either half. Counts are in halves.

#include <string>
#include <vector>

#include "parallel/grid.h"
#include "parallel/planning/stage_durations.h"

namespace foretoken {

/// Times of one microbatch, all in the same unit, which the caller chooses. Costs that are not times, such as
/// parameter counts, use only the member `forward`.
struct LayerCosts {
  std::vector<StageDurations> halves;  // [2L] in forward order: attention and MLP of layer 0, of layer 1, ...
  StageDurations first;                // additional work of the first stage: the embedding
  StageDurations last;                 // additional work of the trunk's last stage: final norm, head, loss
  std::vector<StageDurations> after;   // work of each stage after the trunk; these stages have no layers
  int fewest_on_last = 0;              // minimum number of halves on the trunk's last stage
  bool last_apart = false;             // the trunk's last stage has exactly fewest_on_last halves
};

/// Returns the number of halves of each stage of the grid, in stage order. The cost of the bottleneck stage
/// is minimal (exact, not heuristic); parallel/planning/partition_for_step.h minimizes the time of a training
/// step instead. Every trunk stage has at least one half, except the trunk's last stage, which has at least
/// fewest_on_last halves in addition to its fixed work.
///
/// Among partitions of equal cost it returns one with the fewest cuts inside layers, then the most even
/// counts (least sum of squares), then the fewest halves on earlier stages, which hold activations of more
/// microbatches. Throws UsageError if there are too few layers: "pp 8 × v 1 = 8 stages need at least 3.5
/// layers, the model has 3".
std::vector<int> partition_layers(const LayerCosts& costs, const Grid& grid);

/// Converts configured layers per stage, multiples of ½, to halves.
std::vector<int> halves_of(const std::vector<double>& layers);

/// Throws UsageError if no partition of the layers over the stages is possible.
void require_enough_layers(const LayerCosts& costs, const Grid& grid);

/// The minimum and maximum number of halves of a stage.
struct HalvesRange {
  int least = 0;
  int most = 0;
};
HalvesRange range_of_halves(const LayerCosts& costs, int stage, int stages);

/// Checks a configured partition: one entry per stage, each within range_of_halves(), with sum 2L. Throws
/// UsageError with the figures, in layers.
void validate_partition(const std::vector<int>& halves, const LayerCosts& costs, const Grid& grid);

/// The cost of every stage under a partition.
std::vector<StageDurations> stage_costs(const LayerCosts& costs, const std::vector<int>& halves);
/// The same, in a vector that keeps its memory.
void stage_costs(const LayerCosts& costs, const std::vector<int>& halves,
                 std::vector<StageDurations>& stages);

}  // namespace foretoken
