#include "io/report/metrics_history.h"

#include <algorithm>
#include <filesystem>
#include <limits>

#include <fmt/format.h>

#include "io/files/bounded_json.h"
#include "io/files/line_reader.h"
#include "io/files/sealed_text.h"
#include "runtime/error.h"

namespace foretoken {
namespace {

using Json = nlohmann::json;

double number(const Json& line, const std::string& name) {
  const Json& value = line.at(name);
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

std::int64_t whole(const Json& line, const char* name) {
  const Json& value = line.at(name);
  if (!value.is_number_integer()) throw DataError("{} is {}, expected a whole number", name, brief(value));
  return value.get<std::int64_t>();
}

MetricsHistory::Losses losses_of(const Json& line) {
  MetricsHistory::Losses losses{.step = whole(line, "step"),
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
  const auto known = [&](const char* name) {
    return line.contains(name) ? number(line, name) : std::numeric_limits<double>::quiet_NaN();
  };
  if (kind == "step") {
    MetricsHistory::Step step{losses_of(line), whole(line, "tokens_seen"), number(line, "milliseconds"),
                              number(line, "tokens_per_second")};
    step.lr = known("lr");
    step.grad_norm = known("grad_norm");
    step.tflops_per_rank = known("tflops_per_rank");
    if (line.contains("checkpoint_seconds")) step.checkpoint_seconds = number(line, "checkpoint_seconds");
    if (line.contains("bubble"))
      for (const char* name : MetricsHistory::time_shares) step.shares.push_back(number(line, name));
    if (line.contains("memory_bytes")) step.memory_bytes = whole(line, "memory_bytes");
    history.steps.push_back(std::move(step));
  } else if (kind == "evaluation")
    history.evaluations.push_back(losses_of(line));
  else if (kind == "end")
    history.peak_memory_bytes =
        std::max(history.peak_memory_bytes.value_or(0), whole(line, "peak_memory_bytes"));
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
  if (!std::filesystem::exists(path)) return history;
  LineReader file(path);
  for (std::string text; file.next(text);) {
    try {
      if (const std::string message = line_error(text); !message.empty()) throw DataError("{}", message);
      take(history, parse_json_bounded(text));
    } catch (const std::exception& error) {
      if (history.unreadable_lines++ == 0)
        history.first_unreadable = fmt::format("{}:{}: {}", path, file.number(), error.what());
    }
  }
  history.torn = file.torn();
  return history;
}

}  // namespace foretoken
