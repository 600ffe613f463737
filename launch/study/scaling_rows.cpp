#include "launch/study/scaling_rows.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "io/report/csv.h"
#include "launch/config/elastic_layout.h"
#include "model/config_names.h"
#include "runtime/median.h"

namespace foretoken {

namespace {

std::optional<Spread> spread_of(const std::vector<double>& values) {
  if (values.empty()) return std::nullopt;
  const auto [lowest, highest] = std::minmax_element(values.begin(), values.end());
  return Spread{.median = median(values), .lowest = *lowest, .highest = *highest};
}

/// The swept settings without ranks and those that `left_out` names: "pp=2,depths=1". A layout is its name.
template <class LeftOut>
std::string settings_text(const Sweep& sweep, const SweepPoint& point, const LeftOut& left_out) {
  std::string text;
  for (const std::string& name : sweep.swept)
    if (name != "ranks" && name != "train.global_batch" && !left_out(name))
      text +=
          fmt::format("{}{}{}", text.empty() ? "" : ",",
                      name == "layout" ? "" : name.substr(name.find('.') + 1) + '=', point.settings.at(name));
  return text;
}

/// The median time of a step, divided by the shares that the run measured in some steps; and the mean time
/// between steps in which training waited for checkpoints.
std::vector<TimePart> time_of(const Sweep& sweep, const std::vector<const PointResult*>& done,
                              double milliseconds) {
  constexpr std::array<const char*, MetricsHistory::time_shares.size()> names = {
      "compute", "bubble", "exposed communication", "optimizer", "data"};
  double divided = 0, waited = 0, steps = 0;
  std::array<double, names.size()> sum{};
  for (const PointResult* result : done)
    for (const MetricsHistory::Step& step : result->measured(sweep)) {
      waited += 1e3 * step.checkpoint_seconds;
      ++steps;
      if (step.shares.empty()) continue;
      divided += step.milliseconds;
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += step.milliseconds * step.shares[i];
    }
  std::vector<TimePart> parts;
  double rest = milliseconds;
  if (divided > 0)
    for (std::size_t i = 0; i < sum.size(); ++i) {
      parts.push_back({names[i], milliseconds * sum[i] / divided});
      rest -= parts.back().milliseconds;
    }
  parts.push_back({divided > 0 ? "other" : "step", std::max(0.0, rest)});
  parts.push_back({"checkpoint", waited / steps});
  return parts;
}

/// "pp 1 × dp 2 × v 1, 1f1b"; a planned layout also with the other settings that the plan chose.
std::string layout_of(const Sweep& sweep, const SweepPoint& point) {
  if (!point.illegal.empty()) return "";
  const Config& config = point.config;
  std::string text = layout_text(config, point.ranks);
  if (!sweep.scaling->best_layout) return text;
  text += fmt::format(", microbatch {}", config.train.microbatch);
  if (config.train.recompute != Recompute::none)
    text += fmt::format(", recompute {}", name_of(config.train.recompute));
  if (config.parallel.sharded_optimizer) text += ", sharded optimizer";
  if (config.mtp.placement != MtpConfig::Placement::last)
    text += fmt::format(", placement {}", name_of(config.mtp.placement));
  return text;
}

ScalingRow row_of(const Sweep& sweep, const std::vector<const PointResult*>& repeats) {
  const SweepPoint& point = *repeats.front()->point;
  const std::string series = settings_text(sweep, point, [](const std::string&) { return false; });
  ScalingRow row{.group = point.group,
                 .series = series.empty() ? "measured" : series,
                 .ranks = point.ranks,
                 .point = &point,
                 .layout = layout_of(sweep, point),
                 .repeats = static_cast<int>(repeats.size())};
  std::vector<double> rates, times;
  std::vector<const PointResult*> done;
  for (const PointResult* result : repeats) {
    if (row.reason.empty()) row.reason = result->reason();
    if (result->machine && row.sharing.empty()) row.sharing = result->machine->sharing();
    if (result->status() != "done" || !(result->tokens_per_second > 0)) continue;
    done.push_back(result);
    rates.push_back(result->tokens_per_second);
    times.push_back(result->milliseconds);
    if (result->metrics.peak_memory_bytes)
      row.peak_memory_bytes = std::max(row.peak_memory_bytes.value_or(0), *result->metrics.peak_memory_bytes);
  }
  row.done = static_cast<int>(done.size());
  const auto unfinished = std::find_if(repeats.begin(), repeats.end(),
                                       [](const PointResult* result) { return result->status() != "done"; });
  row.status = unfinished == repeats.end() ? "done"
               : row.done > 0              ? fmt::format("{} of {} done", row.done, row.repeats)
                                           : (*unfinished)->status();
  if (row.reason.empty()) row.reason = point.unplanned;
  row.tokens_per_second = spread_of(rates);
  row.milliseconds = spread_of(times);
  if (row.milliseconds) row.time = time_of(sweep, done, row.milliseconds->median);
  return row;
}

void compare(const Sweep& sweep, std::vector<ScalingRow>& rows) {
  const auto is_layout = [](const std::string& name) { return name == "layout" || is_layout_setting(name); };
  std::map<std::string, const ScalingRow*> baselines, plans;
  for (const ScalingRow& row : rows) {
    if (row.planned()) {
      const ScalingRow*& plan = plans[settings_text(sweep, *row.point, is_layout)];
      if (plan == nullptr || (row.ranks == plan->ranks && row.planned()->total < plan->planned()->total))
        plan = &row;
    }
    if (!row.tokens_per_second) continue;
    const ScalingRow*& best = baselines[settings_text(sweep, *row.point, is_layout)];
    if (best == nullptr || row.ranks < best->ranks ||
        (row.ranks == best->ranks && row.tokens_per_second->median > best->tokens_per_second->median))
      best = &row;
  }
  for (ScalingRow& row : rows) {
    const std::string settings = settings_text(sweep, *row.point, is_layout);
    const auto found = baselines.find(settings);
    if (row.planned()) {
      const ScalingRow* plan = found != baselines.end() ? found->second : plans.at(settings);
      if (plan->planned()) {
        row.planned_speedup = row.planned()->tokens_per_second / plan->planned()->tokens_per_second;
        row.planned_efficiency = *row.planned_speedup * plan->ranks / row.ranks;
      }
    }
    if (!row.tokens_per_second || found == baselines.end()) continue;
    row.baseline = found->second;
    row.speedup = row.tokens_per_second->median / row.baseline->tokens_per_second->median;
    row.efficiency = *row.speedup * row.baseline->ranks / row.ranks;
  }
}

std::string field(std::optional<double> value) {
  return value ? fmt::format("{:.6g}", *value) : "";
}

template <class Number>
std::string text_of(const std::optional<Number>& value) {
  return value ? fmt::format("{}", *value) : "";
}

/// "a; b": the values of hosts; equal values are named once.
template <class Value>
std::string of_hosts(const std::optional<MachineRecord>& machine, const Value& value) {
  std::vector<std::string> seen;
  std::string text;
  if (!machine) return text;
  for (const MachineRecord::Host& host : machine->hosts) {
    const std::string one = value(host);
    if (std::find(seen.begin(), seen.end(), one) != seen.end()) continue;
    text += (seen.empty() ? "" : "; ") + one;
    seen.push_back(one);
  }
  return text;
}

}  // namespace

SharingMarks::SharingMarks(const std::vector<ScalingRow>& rows) {
  for (const ScalingRow& row : rows)
    if (!row.sharing.empty() && std::find(texts_.begin(), texts_.end(), row.sharing) == texts_.end())
      texts_.push_back(row.sharing);
}

std::string SharingMarks::of(const ScalingRow& row) const {
  constexpr std::array<const char*, 5> marks = {"*", "†", "‡", "§", "¶"};
  if (row.sharing.empty()) return "";
  const auto place = std::find(texts_.begin(), texts_.end(), row.sharing) - texts_.begin();
  const auto index = static_cast<std::size_t>(place);
  std::string mark;
  for (std::size_t i = 0; i <= index / marks.size(); ++i) mark += marks[index % marks.size()];
  return mark;
}

std::vector<std::string> SharingMarks::notes() const {
  std::vector<std::string> lines;
  for (const std::string& text : texts_) {
    ScalingRow row;
    row.sharing = text;
    lines.push_back(fmt::format("{} {}", of(row), text));
  }
  return lines;
}

std::vector<ScalingRow> scaling_rows(const Sweep& sweep, const std::vector<PointResult>& results) {
  std::vector<std::string> order;
  std::map<std::string, std::vector<const PointResult*>> groups;
  for (const PointResult& result : results) {
    std::vector<const PointResult*>& repeats = groups[result.point->group];
    if (repeats.empty()) order.push_back(result.point->group);
    repeats.push_back(&result);
  }
  std::vector<ScalingRow> rows;
  rows.reserve(order.size());
  for (const std::string& group : order) rows.push_back(row_of(sweep, groups.at(group)));
  compare(sweep, rows);
  return rows;
}

std::string scaling_csv(const std::vector<ScalingRow>& rows) {
  std::vector<std::string> parts;
  for (const ScalingRow& row : rows)
    for (const TimePart& part : row.time)
      if (std::find(parts.begin(), parts.end(), part.name) == parts.end()) parts.emplace_back(part.name);
  std::vector<std::string> header{"group",
                                  "series",
                                  "ranks",
                                  "layout",
                                  "global_batch",
                                  "repeats",
                                  "done",
                                  "status",
                                  "reason",
                                  "sharing",
                                  "tokens_per_second",
                                  "lowest_tokens_per_second",
                                  "highest_tokens_per_second",
                                  "tokens_per_second_per_rank",
                                  "milliseconds_per_step",
                                  "lowest_milliseconds",
                                  "highest_milliseconds",
                                  "speedup",
                                  "efficiency",
                                  "baseline",
                                  "peak_memory_bytes",
                                  "planned_milliseconds",
                                  "planned_tokens_per_second",
                                  "planned_speedup",
                                  "planned_memory_bytes"};
  for (const std::string& part : parts) header.push_back(part + " ms");
  std::string text = csv_line(header);
  for (const ScalingRow& row : rows) {
    std::vector<std::string> fields{row.group,
                                    row.series,
                                    std::to_string(row.ranks),
                                    row.layout,
                                    std::to_string(row.point->config.train.global_batch),
                                    std::to_string(row.repeats),
                                    std::to_string(row.done),
                                    row.status,
                                    row.reason,
                                    row.sharing};
    const auto add = [&](const std::optional<Spread>& spread, double Spread::*value) {
      fields.push_back(spread ? field((*spread).*value) : "");
    };
    for (const auto value : {&Spread::median, &Spread::lowest, &Spread::highest})
      add(row.tokens_per_second, value);
    fields.push_back(row.tokens_per_second ? field(row.tokens_per_second->median / row.ranks) : "");
    for (const auto value : {&Spread::median, &Spread::lowest, &Spread::highest})
      add(row.milliseconds, value);
    fields.push_back(field(row.speedup));
    fields.push_back(field(row.efficiency));
    fields.push_back(row.baseline != nullptr ? row.baseline->group : "");
    fields.push_back(row.peak_memory_bytes ? std::to_string(*row.peak_memory_bytes) : "");
    fields.push_back(row.planned() ? field(row.planned()->total) : "");
    fields.push_back(row.planned() ? field(row.planned()->tokens_per_second) : "");
    fields.push_back(field(row.planned_speedup));
    fields.push_back(row.planned() ? std::to_string(row.planned()->memory_bytes) : "");
    for (const std::string& name : parts) {
      const auto part = std::find_if(row.time.begin(), row.time.end(),
                                     [&](const TimePart& one) { return one.name == name; });
      fields.push_back(part == row.time.end() ? "" : field(part->milliseconds));
    }
    text += csv_line(fields);
  }
  return text;
}

std::vector<std::string> run_columns() {
  return {"group",         "repeat", "layout",  "global_batch", "warmup_steps",
          "sharing",       "hosts",  "devices", "clock_MHz",    "highest_clock_MHz",
          "power_limit_W", "driver", "CUDA",    "transport",    "MPI",
          "version",       "commit", "job",     "command"};
}

std::vector<std::string> run_fields(const Sweep& sweep, const PointResult& result) {
  const SweepPoint& point = *result.point;
  const std::optional<MachineRecord>& machine = result.machine;
  const auto version = [&](const char* name) -> std::string {
    if (!machine) return "";
    const auto found = machine->versions.find(name);
    return found == machine->versions.end() ? "" : found->second;
  };
  return {point.group,
          std::to_string(point.repeat),
          layout_of(sweep, point),
          std::to_string(point.config.train.global_batch),
          std::to_string(sweep.scaling->warmup_steps),
          machine ? machine->sharing() : "",
          of_hosts(machine, [](const MachineRecord::Host& host) { return host.name; }),
          of_hosts(machine,
                   [](const MachineRecord::Host& host) {
                     return host.device == "cpu" ? fmt::format("cpu, {} cores", host.cores)
                                                 : fmt::format("{} × {}", host.devices, host.device);
                   }),
          of_hosts(machine, [](const MachineRecord::Host& host) { return text_of(host.clock); }),
          of_hosts(machine, [](const MachineRecord::Host& host) { return text_of(host.highest_clock); }),
          of_hosts(machine, [](const MachineRecord::Host& host) { return text_of(host.power_limit); }),
          version("driver"),
          version("CUDA"),
          machine ? machine->transport : "",
          version("MPI"),
          version("foretoken"),
          version("commit"),
          result.job ? result.job->job : "",
          result.outcome.command};
}

}  // namespace foretoken
