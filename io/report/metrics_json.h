#pragma once
// Metrics as the JSON objects of metrics.jsonl (io/report/metrics.h describes them).

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include "io/report/metrics.h"

namespace foretoken {

nlohmann::ordered_json json_of(const StepMetrics& metrics);
nlohmann::ordered_json json_of(const EvaluationMetrics& metrics);
nlohmann::ordered_json json_of(const EndMetrics& metrics);

/// The object as a line, without its "check". Adds the branch, if it is above 1, and the time.
std::string line_of(nlohmann::ordered_json object, std::int64_t branch);

}  // namespace foretoken
