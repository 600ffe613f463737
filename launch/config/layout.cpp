#include "launch/config/layout.h"

#include <fmt/format.h>

#include "launch/config/device_times.h"
#include "model/layer_costs.h"
#include "parallel/planning/partition_for_step.h"
#include "runtime/error.h"

namespace foretoken {

LayerCosts estimated_costs(const Config& config, Purpose purpose) {
  return layer_costs(config.model, config.mtp,
                     {.sequence_length = config.data.sequence_length,
                      .trains = purpose == Purpose::train,
                      .recompute = config.train.recompute,
                      .frozen_trunk = config.train.freeze == TrainConfig::Freeze::trunk});
}

LayerCosts layer_costs(const Config& config, Purpose purpose) {
  if (purpose == Purpose::train && config.device_times) return config.device_times->layers(config);
  return estimated_costs(config, purpose);
}

namespace {

constexpr std::int64_t most_partition_cells = std::int64_t{1} << 22;
/// Maximum number of a step's actions over all ranks. A program of that size takes seconds to build and
/// validate.
constexpr std::int64_t most_actions = std::int64_t{1} << 24;

/// Throws a UsageError unless stages remain for the trunk.
void require_stages(const MtpConfig& mtp, const Grid& grid) {
  using enum MtpConfig::Placement;
  const std::int64_t apart = mtp.placement == own_stage         ? 1
                             : mtp.placement == stage_per_depth ? mtp.depths
                                                                : 0;
  if (grid.stages() > apart) return;
  throw UsageError("mtp: placement \"{}\" {}: at least {} stages are needed, but pp {} × v {} = {}",
                   mtp.placement == own_stage ? "own_stage" : "stage_per_depth",
                   mtp.placement == own_stage ? "puts no layer beside the heads"
                                              : fmt::format("puts {} depth{} on stages of their own",
                                                            mtp.depths, mtp.depths == 1 ? "" : "s"),
                   apart + 1, grid.pp, grid.virtual_stages, grid.stages());
}

/// Without halves_per_stage unless the configuration has them.
ModelLayout configured_layout(const Config& config, const Grid& grid, const LayerCosts& costs) {
  return {.grid = grid,
          .halves_per_stage = halves_of(config.parallel.blocks_per_stage),
          .depth_stages = static_cast<int>(costs.after.size())};
}

}  // namespace

void validate_layout(const Config& config, const Grid& grid) {
  require_stages(config.mtp, grid);
  const LayerCosts costs = estimated_costs(config, Purpose::train);
  if (!config.parallel.blocks_per_stage.empty())
    return validate_partition(halves_of(config.parallel.blocks_per_stage), costs, grid);
  require_enough_layers(costs, grid);
  // Limits the table of the partition search to about 100 MB.
  if (const std::int64_t cells = config.model.num_hidden_layers * grid.stages(); cells > most_partition_cells)
    throw UsageError(
        "partition: {} layers × {} stages = {}, expected at most {} for the search; set "
        "parallel.blocks_per_stage",
        config.model.num_hidden_layers, grid.stages(), cells, most_partition_cells);
}

ModelLayout even_layout(const Config& config, const Grid& grid, Purpose purpose) {
  const LayerCosts costs = layer_costs(config, purpose);
  ModelLayout layout = configured_layout(config, grid, costs);
  if (layout.halves_per_stage.empty()) layout.halves_per_stage = partition_layers(costs, grid);
  return layout;
}

ModelLayout resolve_layout(const Config& config, const Grid& grid, Purpose purpose) {
  if (purpose != Purpose::train) return even_layout(config, grid, purpose);
  const LayerCosts costs = layer_costs(config, purpose);
  ModelLayout layout = configured_layout(config, grid, costs);
  if (layout.halves_per_stage.empty())
    layout.halves_per_stage = partition_for_step(costs, config.parallel.schedule, shape_of(config, grid));
  return layout;
}

void validate_step(const Config& config, const Grid& grid) {
  const std::int64_t microbatches = microbatches_of(config, grid);
  if (microbatches > most_actions / (2 * std::int64_t{grid.stages()}))
    throw UsageError(
        "parallel: {} microbatches × {} stages, expected at most {} in a step; increase train.microbatch",
        microbatches, grid.stages(), most_actions / 2);
}

PipelineShape shape_of(const Config& config, const Grid& grid) {
  return {.pp = grid.pp,
          .virtual_stages = grid.virtual_stages,
          .microbatches = static_cast<int>(microbatches_of(config, grid))};
}

std::int64_t microbatches_of(const Config& config, const Grid& grid) {
  return config.train.global_batch / (config.train.microbatch * grid.dp);
}

}  // namespace foretoken
