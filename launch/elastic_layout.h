#pragma once
// A layout for the ranks that are available, where the configured one does not fit them: parallel.elastic.

#include <string>

#include "launch/config.h"

namespace foretoken {

/// The configuration with pp, dp, and where they must follow virtual_stages, schedule and blocks_per_stage,
/// for exactly `ranks` ranks. Unchanged where it fits them already. Legal layouts are those that validate()
/// and resolve_grid() accept (launch/config_validator.h); of these it takes
/// 1. one with at least the configured pp, whose ranks hold no more of the model than before, if there is
/// one,
/// 2. the shortest step: the simulated pipeline program over the cost of each stage, messages and reductions
/// free,
/// 3. the fewest pipeline ranks.
/// A UsageError where no layout is legal.
Config layout_for(const Config& config, int ranks);

/// The same for at most `ranks` ranks: pp × dp of the result says how many. Of equal steps the fewer ranks.
Config layout_for_at_most(const Config& config, int ranks);

/// Whether pp, dp, virtual stages, schedule or blocks per stage differ.
bool is_same_layout(const ParallelConfig& a, const ParallelConfig& b);

/// "pp 3 × dp 1 × v 1, 1f1b"
std::string layout_text(const Config& config, int ranks);

}  // namespace foretoken
