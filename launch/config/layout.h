#pragma once
// Assigns the layers of a configuration's model to stages. Pure functions: they need no ranks and no devices.

#include "launch/config/config.h"
#include "model/layout.h"
#include "parallel/pipeline/program.h"
#include "parallel/planning/partition.h"

namespace foretoken {

enum class Purpose { train, evaluate };

/// Each layer's share of a step's time, from the constants of model/cost.h.
LayerCosts estimated_costs(const Config& config, Purpose purpose);
/// Each layer's share of a training step's time, measured if Config::device_times is set; otherwise, and for
/// evaluations, estimated_costs().
LayerCosts layer_costs(const Config& config, Purpose purpose);

/// Checks that every stage gets layers, under parallel.blocks_per_stage or automatically, with heads placed
/// as mtp.placement says. Throws a UsageError if there are too few stages or layers.
void validate_layout(const Config& config, const Grid& grid);

/// Throws a UsageError if a step's pipeline program would be too large.
void validate_step(const Config& config, const Grid& grid);

/// The partition of layers into stages: parallel.blocks_per_stage if set; otherwise the one with the shortest
/// training step or, for an evaluation, the one with the least expensive bottleneck stage. Requires that
/// validate_layout() has passed.
ModelLayout resolve_layout(const Config& config, const Grid& grid, Purpose purpose);
/// The same, but always with the least expensive bottleneck stage: without a simulation.
ModelLayout even_layout(const Config& config, const Grid& grid, Purpose purpose);

/// Number of microbatches per step on each data-parallel rank.
std::int64_t microbatches_of(const Config& config, const Grid& grid);
/// Shape of a step's program on each data-parallel rank.
PipelineShape shape_of(const Config& config, const Grid& grid);

}  // namespace foretoken
