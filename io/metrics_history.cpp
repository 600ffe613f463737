#include "io/metrics_history.h"

#include <algorithm>
#include <fstream>
#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "runtime/error.h"

namespace foretoken {
namespace {

using Json = nlohmann::json;

double number(const Json& line, const std::string& name) {
  const Json& value = line.at(name);
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

MetricsHistory::Losses losses_of(const Json& line) {
  MetricsHistory::Losses losses{.step = line.at("step").get<std::int64_t>(),
                                .depths = {number(line, "main_loss")},
                                .acceptance = {},
                                .accepted_length = {}};
  for (int k = 1; line.contains(fmt::format("mtp{}_loss", k)); ++k)
    losses.depths.push_back(number(line, fmt::format("mtp{}_loss", k)));
  for (int k = 1; line.contains(fmt::format("mtp{}_acceptance", k)); ++k)
    losses.acceptance.push_back(number(line, fmt::format("mtp{}_acceptance", k)));
  if (line.contains("accepted_length")) losses.accepted_length = number(line, "accepted_length");
  return losses;
}

void take(MetricsHistory& history, const Json& line) {
  const std::string kind = line.at("kind");
  if (kind == "step")
    history.steps.push_back({losses_of(line), line.at("tokens_seen").get<std::int64_t>(),
                             number(line, "milliseconds"), number(line, "tokens_per_second")});
  else if (kind == "evaluation")
    history.evaluations.push_back(losses_of(line));
  else if (kind == "end")
    history.peak_memory_bytes =
        std::max(history.peak_memory_bytes.value_or(0), line.at("peak_memory_bytes").get<std::int64_t>());
}

}  // namespace

double MetricsHistory::tokens_at(std::int64_t step) const {
  double tokens = 0;
  for (const Step& each : steps)
    if (each.step <= step) tokens = static_cast<double>(each.tokens_seen);
  return tokens;
}

double MetricsHistory::seconds_at(std::int64_t step) const {
  double seconds = 0;
  for (const Step& each : steps)
    if (each.step <= step) seconds += each.milliseconds / 1e3;
  return seconds;
}

MetricsHistory read_metrics(const std::string& path) {
  MetricsHistory history;
  std::ifstream file(path);
  int number = 0;
  for (std::string text; std::getline(file, text);) {
    ++number;
    if (file.eof()) break;  // without its newline
    try {
      take(history, Json::parse(text));
    } catch (const Json::exception& error) {
      throw DataError("metrics: {}:{}: {}", path, number, error.what());
    }
  }
  return history;
}

}  // namespace foretoken
