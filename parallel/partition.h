#pragma once
// Which stage holds which layers: contiguous runs of half layers, dealt by cost, not by count.
//
// A decoder layer is two residual steps, attention and MLP. Between them, as between layers, the residual
// stream alone goes on, so a stage may begin and end with either half; runs are counted in halves.

#include <string>
#include <vector>

#include "parallel/grid.h"

namespace foretoken {

/// Times of one microbatch, in any one unit.
struct LayerCosts {
  std::vector<double> halves;  // [2L] in forward order: attention and MLP of layer 0, of layer 1, ...
  double first = 0;            // what the first stage does besides: the embedding
  double last = 0;             // what the trunk's last stage does besides: final norm, head, loss
  std::vector<double> after;   // stages behind it, without layers: what each does
  int fewest_on_last = 0;      // halves that the trunk's last stage must have
  bool last_apart = false;     // and it has no others
};

/// The number of halves of every stage of the grid, in order, such that the most expensive stage costs as
/// little as possible (exact). Every stage of the trunk but its last has at least one half; that has its
/// fixed work, and may go without. Of partitions that are equal in cost it takes one with the fewest cuts
/// inside layers, of those the most even in counts (least sum of squares), of those the one with fewer halves
/// on earlier stages, which hold more microbatches at once. Where ranks have several stages it then shifts
/// halves between neighbouring stages until no shift makes the busiest rank's work less, no stage getting
/// dearer than the dearest. A UsageError where there are too few layers: "pp 8 × v 1 = 8 stages need at least
/// 3.5 layers, the model has 3".
std::vector<int> partition_layers(const LayerCosts& costs, const Grid& grid);

/// Layers that a person wrote for every stage, multiples of ½, as halves.
std::vector<int> halves_of(const std::vector<double>& layers);

/// Checks a partition that a person wrote: as many entries as stages, on each what the costs ask for and at
/// least a half where partition_layers() deals one, 2L in sum. A UsageError gives the figures, in layers.
void validate_partition(const std::vector<int>& halves, const LayerCosts& costs, const Grid& grid);

/// What every stage costs under a partition.
std::vector<double> stage_costs(const LayerCosts& costs, const std::vector<int>& halves);

}  // namespace foretoken
