#pragma once
// Which stage holds what under a configuration: pure functions, without ranks and devices.

#include "launch/config.h"
#include "model/layout.h"
#include "parallel/partition.h"
#include "parallel/program.h"

namespace foretoken {

enum class Purpose { train, evaluate };

/// The time that each layer takes of a step.
LayerCosts layer_costs(const Config& config, Purpose purpose);

/// Checks that every stage gets layers, under parallel.blocks_per_stage or automatically, with heads where
/// mtp.placement puts them. A UsageError where there are too few stages or layers.
void validate_layout(const Config& config, const Grid& grid);

/// Checks that a step's pipeline program is small enough to be made. A UsageError.
void validate_step(const Config& config, const Grid& grid);

/// The partition of layers into stages: parallel.blocks_per_stage, or the one with the shortest training
/// step; for an evaluation the one whose bottleneck stage costs least. validate_layout() has passed.
ModelLayout resolve_layout(const Config& config, const Grid& grid, Purpose purpose);

/// Microbatches of a step on each data-parallel rank.
std::int64_t microbatches_of(const Config& config, const Grid& grid);
/// A step on each data-parallel rank.
PipelineShape shape_of(const Config& config, const Grid& grid);

}  // namespace foretoken
