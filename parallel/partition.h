#pragma once
// Which stage holds which layers: contiguous runs of transformer blocks, dealt by cost, not by count.

#include <vector>

#include "parallel/grid.h"

namespace foretoken {

/// Times of one microbatch, in any one unit.
struct LayerCosts {
  std::vector<double> blocks;  // [L]
  double first = 0;            // what the first stage does besides: the embedding
  double last = 0;             // what the last stage does besides: final norm, head, loss, prediction heads
  int fewest_on_last = 0;      // blocks that the last stage must have, 0 or 1
};

/// The number of blocks of every stage of the grid, in order, such that the most expensive stage costs as
/// little as possible (exact). Every stage but the last has at least one block; the last has its fixed work,
/// and may go without. Of partitions that are equal in cost it takes the most even in block counts (least sum
/// of squares), of those the one with fewer blocks on earlier stages, which hold more microbatches at once.
/// A UsageError where there are too few layers:
/// "pp 8 × v 1 = 8 stages need at least 7 layers, the model has 4".
std::vector<int> partition_layers(const LayerCosts& costs, const Grid& grid);

/// Checks a partition that a person wrote: as many entries as stages, at least one block on every stage but
/// the last, which has fewest_on_last at least, L in sum. A UsageError gives the figures.
void validate_partition(const std::vector<int>& blocks, int layers, const Grid& grid, int fewest_on_last = 0);

/// What every stage costs under a partition.
std::vector<double> stage_costs(const LayerCosts& costs, const std::vector<int>& blocks);

}  // namespace foretoken
