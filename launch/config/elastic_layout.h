#pragma once
// Chooses a layout for the available ranks if the configured one does not fit them: parallel.elastic.

#include <string>

#include "launch/config/config.h"

namespace foretoken {

/// Returns the configuration with pp, dp and, if necessary, virtual_stages, schedule and blocks_per_stage
/// changed to use exactly `ranks` ranks. Returns it unchanged if it fits already. Legal layouts are those
/// that validate() and resolve_grid() accept (launch/config/config_validator.h). Among them the order of
/// preference is
/// 1. layouts with at least the configured pp, if any: their ranks hold no more of the model than before;
/// 2. the shortest step with the partition that training chooses, by simulation of the pipeline program over
///    each stage's cost, in which messages and reductions take no time;
/// 3. the fewest pipeline ranks.
/// Throws a UsageError if no layout is legal.
Config layout_for(const Config& config, int ranks);

/// The same for at most `ranks` ranks: the result uses pp × dp of them. Of layouts with equal step times it
/// takes the one with the fewest ranks.
Config layout_for_at_most(const Config& config, int ranks);

/// Whether pp, dp, virtual stages, schedule and blocks per stage are equal.
bool is_same_layout(const ParallelConfig& a, const ParallelConfig& b);

/// Example: "pp 3 × dp 1 × v 1, 1f1b".
std::string layout_text(const Config& config, int ranks);

}  // namespace foretoken
