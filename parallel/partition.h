#pragma once
// Which stage holds which layers: contiguous runs of half layers, dealt by cost, not by count.
//
// A decoder layer is two residual steps, attention and MLP. Between them, as between layers, the residual
// stream alone goes on, so a stage may begin and end with either half; runs are counted in halves.

#include <string>
#include <vector>

#include "parallel/grid.h"
#include "parallel/stage_durations.h"

namespace foretoken {

/// Times of one microbatch, in any one unit; what is not a time goes by `forward` alone.
struct LayerCosts {
  std::vector<StageDurations> halves;  // [2L] in forward order: attention and MLP of layer 0, of layer 1, ...
  StageDurations first;                // what the first stage does besides: the embedding
  StageDurations last;                 // what the trunk's last stage does besides: final norm, head, loss
  std::vector<StageDurations> after;   // stages behind it, without layers: what each does
  int fewest_on_last = 0;              // halves that the trunk's last stage must have
  bool last_apart = false;             // and it has no others
};

/// The number of halves of every stage of the grid, in order, such that the most expensive stage costs as
/// little as possible (exact); for a step of training see parallel/partition_for_step.h. Every stage of the
/// trunk but its last has at least one half; that has its fixed work, and may go without. Of partitions that
/// are equal in cost it takes one with the fewest cuts inside layers, of those the most even in counts (least
/// sum of squares), of those the one with fewer halves on earlier stages, which hold more microbatches at
/// once. A UsageError where there are too few layers: "pp 8 × v 1 = 8 stages need at least 3.5 layers, the
/// model has 3".
std::vector<int> partition_layers(const LayerCosts& costs, const Grid& grid);

/// Layers that a person wrote for every stage, multiples of ½, as halves.
std::vector<int> halves_of(const std::vector<double>& layers);

/// That there are layers for the stages, as partition_layers() needs them.
void require_enough_layers(const LayerCosts& costs, const Grid& grid);

/// The fewest and the most halves that a stage may have.
struct HalvesRange {
  int least = 0;
  int most = 0;
};
HalvesRange range_of_halves(const LayerCosts& costs, int stage, int stages);

/// Checks a partition that a person wrote: as many entries as stages, on each what the costs ask for and at
/// least a half where partition_layers() deals one, 2L in sum. A UsageError gives the figures, in layers.
void validate_partition(const std::vector<int>& halves, const LayerCosts& costs, const Grid& grid);

/// What every stage costs under a partition.
std::vector<StageDurations> stage_costs(const LayerCosts& costs, const std::vector<int>& halves);

}  // namespace foretoken
