#pragma once
// The cross-checks between options, all in one place. Each is a UsageError that begins with the file and line
// (or the --set flag) of the options that do not fit together, and states the figures.

#include <cstdint>
#include <string>

#include "launch/config.h"
#include "parallel/grid.h"

namespace foretoken {

/// What can be checked without knowing the number of ranks.
void validate(const Config& config);

/// The rank grid in a world of that size: dp 0 becomes world / pp. Checks what depends on it: the product,
/// the global batch ("global_batch 12 is not a multiple of dp 2 × microbatch 4 = 8"), stages against layers.
Grid resolve_grid(const Config& config, int world_size);

/// The model must know every token of the dataset.
void validate_vocabulary(const Config& config, std::int64_t dataset_vocab_size, const std::string& dataset);

/// What a resumed run may not change (the model and the MTP conventions) is as it was; names both values.
void validate_resumed(const Config& before, const Config& config);

}  // namespace foretoken
