#include "launch/study/study_report.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include "io/files/durable_file.h"
#include "io/files/text_file.h"
#include "io/report/csv.h"
#include "launch/study/point_file.h"
#include "launch/study/scaling_rows.h"
#include "model/cost.h"
#include "runtime/error.h"
#include "runtime/median.h"

namespace foretoken {

namespace {

namespace fs = std::filesystem;

/// The median of the finite values; 0 if there is none.
double finite_median(std::vector<double> values) {
  std::erase_if(values, [](double value) { return !std::isfinite(value); });
  return values.empty() ? 0 : median(std::move(values));
}

std::optional<double> finite(double value) {
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

void append(std::vector<std::string>& row, std::vector<std::string> more) {
  row.insert(row.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

std::string field(std::optional<double> value) {
  return value ? fmt::format("{:.6g}", *value) : "";
}

}  // namespace

Outcome outcome_of(const std::string& point_folder) {
  const std::string path = point_folder + "/outcome.json";
  if (!fs::exists(path)) return {};
  try {
    const nlohmann::json json = read_point_file(path);
    return {.exit_code = json.at("exit_code").get<int>(),
            .seconds = json.at("seconds").get<double>(),
            .reason = json.value("reason", ""),
            .command = json.value("command", "")};
  } catch (const nlohmann::json::exception& error) {
    throw DataError("study: {}: {}", path, error.what());
  }
}

void write_outcome(const std::string& point_folder, const Outcome& outcome) {
  nlohmann::json json{{"exit_code", outcome.exit_code.value()}, {"seconds", outcome.seconds}};
  if (!outcome.reason.empty()) json["reason"] = outcome.reason;
  if (!outcome.command.empty()) json["command"] = outcome.command;
  write_point_file(point_folder + "/outcome.json", json);
}

const std::string& PointResult::reason() const {
  if (!point->illegal.empty()) return point->illegal;
  return !outcome.exit_code && job ? job->reason : outcome.reason;
}

std::string PointResult::status() const {
  if (!point->illegal.empty()) return "illegal";
  if (point->projected) return "projected";
  if (!outcome.exit_code && job) return job->state;
  if (!outcome.exit_code) return metrics.steps.empty() ? "not run" : "interrupted";
  if (*outcome.exit_code == 0) return "done";
  if (*outcome.exit_code == static_cast<int>(ExitCode::resumable)) return "stopped";
  return fmt::format("failed ({})", *outcome.exit_code);
}

std::span<const MetricsHistory::Step> PointResult::measured(const Sweep& sweep) const {
  const std::span<const MetricsHistory::Step> steps = metrics.steps;
  if (!sweep.scaling) return steps.subspan(steps.size() / 5);
  const auto first = std::find_if(steps.begin(), steps.end(), [&](const MetricsHistory::Step& step) {
    return step.step > sweep.scaling->warmup_steps;
  });
  return steps.subspan(static_cast<std::size_t>(first - steps.begin()));
}

std::optional<double> PointResult::final_loss(std::size_t depth) const {
  if (metrics.evaluations.empty() || metrics.evaluations.back().depths.size() <= depth) return std::nullopt;
  return finite(metrics.evaluations.back().depths[depth]);
}

std::optional<double> PointResult::best_loss(std::size_t depth) const {
  std::optional<double> best;
  for (const MetricsHistory::Losses& evaluation : metrics.evaluations)
    if (evaluation.step > 0 && depth < evaluation.depths.size() && std::isfinite(evaluation.depths[depth]))
      best = std::min(best.value_or(evaluation.depths[depth]), evaluation.depths[depth]);
  return best;
}

const MetricsHistory::Losses* PointResult::last() const {
  if (!metrics.evaluations.empty()) return &metrics.evaluations.back();
  return metrics.steps.empty() ? nullptr : &metrics.steps.back();
}

const MetricsHistory::Losses* PointResult::last_acceptance() const {
  if (!metrics.evaluations.empty() && !metrics.evaluations.back().acceptance.empty())
    return &metrics.evaluations.back();
  const auto measured = std::find_if(metrics.steps.rbegin(), metrics.steps.rend(),
                                     [](const auto& step) { return !step.acceptance.empty(); });
  return measured == metrics.steps.rend() ? nullptr : &*measured;
}

PointResult result_of(const Sweep& sweep, const SweepPoint& point) {
  const std::string folder = folder_of(sweep, point);
  PointResult result{.point = &point,
                     .index = static_cast<int>(&point - sweep.points.data()),
                     .outcome = outcome_of(folder),
                     .parameters = parameter_count(point.config.model, point.config.mtp),
                     .metrics = read_metrics(folder + "/run/metrics.jsonl"),
                     .machine = read_machine_record(folder + "/run"),
                     .job = job_of(folder)};
  std::vector<double> rates, times;
  for (const MetricsHistory::Step& step : result.measured(sweep)) {
    rates.push_back(step.tokens_per_second);
    times.push_back(step.milliseconds);
  }
  result.tokens_per_second = finite_median(std::move(rates));
  result.milliseconds = finite_median(std::move(times));
  return result;
}

std::string summary(const PointResult& result) {
  std::string text;
  if (const MetricsHistory::Losses* last = result.last())
    text = fmt::format("main {:.4f}, ", last->depths[0]);
  return text + fmt::format("{:.0f} tok/s", result.tokens_per_second);
}

const PointResult* baseline_of(const PointResult& result, const Sweep& sweep,
                               const std::vector<PointResult>& results) {
  const auto shared = [&](const PointResult& other) {
    return std::count_if(sweep.swept.begin(), sweep.swept.end(), [&](const std::string& name) {
      return !name.starts_with("mtp.") && other.point->settings.at(name) == result.point->settings.at(name);
    });
  };
  const PointResult* best = nullptr;
  for (const PointResult& other : results)
    if (other.depths() == 0 && !other.metrics.steps.empty() &&
        (best == nullptr || shared(other) > shared(*best)))
      best = &other;
  return best;
}

std::string study_csv(const Sweep& sweep, const std::vector<PointResult>& results) {
  std::size_t depths = 0;
  for (const PointResult& result : results)
    depths = std::max(depths, static_cast<std::size_t>(result.depths()));
  const auto name_of = [](std::size_t k) { return k == 0 ? "main" : fmt::format("mtp{}", k); };

  std::vector<std::string> header{"point"};
  for (const std::string& name : sweep.swept)
    if (name != "ranks") header.push_back(name);
  for (const char* name :
       {"ranks", "status", "reason", "exit_code", "seconds", "parameters", "steps", "tokens"})
    header.emplace_back(name);
  for (std::size_t k = 0; k <= depths; ++k) header.push_back("final_" + name_of(k) + "_loss");
  for (std::size_t k = 0; k <= depths; ++k) header.push_back("best_" + name_of(k) + "_loss");
  for (std::size_t k = 1; k <= depths; ++k) header.push_back(name_of(k) + "_acceptance");
  for (const char* name :
       {"accepted_length", "tokens_per_second", "milliseconds_per_step", "peak_memory_bytes"})
    header.emplace_back(name);

  if (sweep.scaling) append(header, run_columns());

  std::string text = csv_line(header);
  for (const PointResult& result : results) {
    const MetricsHistory& metrics = result.metrics;
    const bool ran = !metrics.steps.empty();
    std::vector<std::string> row{result.point->name};
    for (const std::string& name : sweep.swept)
      if (name != "ranks") row.push_back(result.point->settings.at(name));
    row.push_back(std::to_string(result.point->ranks));
    row.push_back(result.status());
    row.push_back(result.reason());
    row.push_back(result.outcome.exit_code ? std::to_string(*result.outcome.exit_code) : "");
    row.push_back(result.outcome.exit_code ? fmt::format("{:.1f}", result.outcome.seconds) : "");
    row.push_back(std::to_string(result.parameters));
    row.push_back(ran ? std::to_string(metrics.steps.back().step) : "0");
    row.push_back(ran ? std::to_string(metrics.steps.back().tokens_seen) : "0");
    for (std::size_t k = 0; k <= depths; ++k) row.push_back(field(result.final_loss(k)));
    for (std::size_t k = 0; k <= depths; ++k) row.push_back(field(result.best_loss(k)));
    const MetricsHistory::Losses* last = result.last_acceptance();
    for (std::size_t k = 0; k < depths; ++k)
      row.push_back(last != nullptr && k < last->acceptance.size() ? field(finite(last->acceptance[k])) : "");
    row.push_back(last != nullptr && last->accepted_length ? field(finite(*last->accepted_length)) : "");
    row.push_back(ran ? fmt::format("{:.1f}", result.tokens_per_second) : "");
    row.push_back(ran ? fmt::format("{:.3f}", result.milliseconds) : "");
    row.push_back(metrics.peak_memory_bytes ? std::to_string(*metrics.peak_memory_bytes) : "");
    if (sweep.scaling) append(row, run_fields(sweep, result));
    text += csv_line(row);
  }
  return text;
}

std::vector<PointResult> write_report(const Sweep& sweep, const std::string& sweep_file) {
  std::vector<PointResult> results;
  for (const SweepPoint& point : sweep.points) results.push_back(result_of(sweep, point));
  const std::vector<Figure> figures =
      sweep.scaling ? scaling_figures(sweep, results) : study_figures(sweep, results);
  const fs::path folder = sweep.directory;
  fs::create_directories(folder / "figures");
  for (const Figure& figure : figures) write_durably(folder / "figures" / (figure.name + ".svg"), figure.svg);
  const std::string text = read_text_file(sweep_file, most_config_bytes);
  write_durably(folder / "study.csv", study_csv(sweep, results));
  if (sweep.scaling) write_durably(folder / "scaling.csv", scaling_csv(scaling_rows(sweep, results)));
  write_durably(folder / "study.html", sweep.scaling ? scaling_page(sweep, results, figures, text)
                                                     : study_page(sweep, results, figures, text));
  return results;
}

}  // namespace foretoken
