#pragma once
// The output of `foretoken plan`: tables of at most 100 columns, or JSON.

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "launch/plan/planner.h"

namespace foretoken {

/// One table per number of ranks; below it, what does not fit.
std::string plan_text(const Config& config, const PlanOptions& options, const std::vector<RanksPlan>& plans);
nlohmann::ordered_json plan_json(const Config& config, const PlanOptions& options,
                                 const std::vector<RanksPlan>& plans);

/// Why a layout does not fit: "rank 3 needs 93.1 GiB of 80.0 GiB: activations 51.2 GiB, weights 20.1 GiB".
std::string too_large_reason(const PlannedLayout& planned, std::size_t memory);

}  // namespace foretoken
