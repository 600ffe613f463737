#pragma once
// Which stage holds what under a configuration: pure functions, without ranks and devices.

#include "launch/config.h"
#include "model/layout.h"
#include "parallel/partition.h"
#include "parallel/program.h"

namespace foretoken {

enum class Purpose { train, evaluate };

/// What the layers take of a step.
LayerCosts layer_costs(const Config& config, Purpose purpose);

/// That the stages have what they need, as parallel.blocks_per_stage deals it or at all, with heads where
/// mtp.placement says. A UsageError where there are too few stages or layers.
void validate_layout(const Config& config, const Grid& grid);

/// That a step's pipeline program is of a size that can be made. A UsageError.
void validate_step(const Config& config, const Grid& grid);

/// Which stage holds what: as parallel.blocks_per_stage says, or such that a step of training is as short as
/// possible, for an evaluation the dearest stage as cheap as possible. validate_layout() has passed.
ModelLayout resolve_layout(const Config& config, const Grid& grid, Purpose purpose);

/// Microbatches of a step on each data-parallel rank.
std::int64_t microbatches_of(const Config& config, const Grid& grid);
/// A step on each data-parallel rank.
PipelineShape shape_of(const Config& config, const Grid& grid);

}  // namespace foretoken
