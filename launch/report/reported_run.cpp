#include "launch/report/reported_run.h"

#include <filesystem>

#include <fmt/format.h>

#include "io/checkpoint/run_directory.h"
#include "launch/config/config_validator.h"
#include "launch/doctor/machine_record.h"
#include "launch/session/profile_on_ranks.h"
#include "launch/session/train_config.h"
#include "runtime/error.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

namespace fs = std::filesystem;

/// The step of "trace_00000015.json"; 0 for other names.
std::int64_t traced_step(const std::string& name) {
  constexpr std::string_view prefix = "trace_", suffix = ".json";
  if (!name.starts_with(prefix) || !name.ends_with(suffix)) return 0;
  const std::string digits = name.substr(prefix.size(), name.size() - prefix.size() - suffix.size());
  if (digits.empty() || digits.size() > 18 || digits.find_first_not_of("0123456789") != std::string::npos)
    return 0;
  return std::stoll(digits);
}

void read_newest_trace(ReportedRun& run) {
  fs::path newest;
  for (const fs::directory_entry& entry : fs::directory_iterator(run.path))
    if (const std::int64_t step = traced_step(entry.path().filename().string()); step > run.traced_step) {
      run.traced_step = step;
      newest = entry.path();
    }
  if (newest.empty()) {
    run.missing.emplace_back("no step was traced: train.trace_step=N writes the timeline of step N");
    return;
  }
  try {
    run.trace = read_trace(newest);
  } catch (const DataError& error) {
    run.missing.emplace_back(error.what());
  }
}

/// The nodes of the run's ranks, which are numbered node after node. One node if machine.json is missing.
Links nodes_of(const std::string& run) {
  Links nodes;
  if (const auto machine = read_machine_record(run); machine && machine->hosts.size() > 1)
    nodes.per_node = machine->hosts.front().ranks;
  return nodes;
}

void simulate(ReportedRun& run) {
  if (run.trace.empty() || !run.config) return;
  try {
    if (!run.config->parallel.profile.empty()) {
      run.config->parallel.profile = profile_of_run(run.path);
      load_profile(*run.config);
    }
    run.traced_pp = resolve_grid(*run.config, static_cast<int>(run.trace.size())).pp;
    run.simulated = simulate_traced(run.trace, *run.config, nodes_of(run.path));
  } catch (const std::exception& error) {
    run.missing.push_back(fmt::format("the traced step cannot be simulated: {}", error.what()));
  }
}

}  // namespace

ReportedRun read_run(const std::string& path) {
  const RunDirectory directory = RunDirectory::open(path);
  ReportedRun run;
  run.path = directory.path();
  run.name = fs::weakly_canonical(run.path).filename().string();
  try {
    const RunSettings settings = settings_of_run(run.path);
    run.config = settings.config;
    if (!settings.error.empty()) run.missing.push_back(settings.error);
  } catch (const std::exception& error) {
    run.missing.push_back(fmt::format("its settings are unknown: {}", error.what()));
  }
  run.metrics = read_metrics(directory.metrics_path());
  if (run.metrics.steps.empty()) run.missing.emplace_back("metrics.jsonl has no step");
  if (run.metrics.torn) run.missing.emplace_back("metrics.jsonl ends inside a line, which is left out");
  if (run.metrics.unreadable_lines > 0)
    run.missing.push_back(fmt::format("{} of metrics.jsonl left out, the first at {}",
                                      counted(run.metrics.unreadable_lines, "damaged line"),
                                      run.metrics.first_unreadable));
  read_newest_trace(run);
  simulate(run);
  return run;
}

}  // namespace foretoken
