#pragma once
// All cross-checks between options. Each failure is a UsageError that states the values of the conflicting
// options, and then the file and line (or the --set flag) that set them.

#include <cstdint>
#include <string>

#include "launch/config/config.h"
#include "parallel/grid.h"

namespace foretoken {

/// Checks everything that does not depend on the number of ranks.
void validate(const Config& config);

/// Returns the rank grid for a world of that size; dp 0 becomes world / pp. Checks the product, the global
/// batch ("global_batch 12 is not a multiple of dp 2 × microbatch 4 = 8"), and that there are enough layers
/// for the stages.
Grid resolve_grid(const Config& config, int world_size);

/// Checks that the model's vocabulary covers every token of the dataset.
void validate_vocabulary(const Config& config, std::int64_t dataset_vocab_size, const std::string& dataset);

/// Checks that the settings a resumed run must not change (the model and the MTP conventions) are unchanged;
/// an error names both values.
void validate_resumed(const Config& before, const Config& config);

}  // namespace foretoken
