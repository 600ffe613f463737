#pragma once
// A run as its page shows it, read from its folder.

#include <optional>
#include <string>
#include <vector>

#include "io/report/metrics_history.h"
#include "io/report/trace.h"
#include "launch/config/config.h"
#include "launch/report/traced_step.h"

namespace foretoken {

struct ReportedRun {
  std::string name;  // of its folder
  std::string path;
  std::optional<Config> config;
  MetricsHistory metrics;
  std::int64_t traced_step = 0;
  std::vector<TracedRank> trace;  // of the newest traced step; empty if there is none
  int traced_pp = 1;              // pipeline ranks of the trace; 1 if its layout is unknown
  std::optional<SimulatedStep> simulated;
  std::vector<std::string> missing;  // what the folder lacks, a sentence each
};

/// Throws a DataError if the path is neither a run nor a checkpoint of one.
ReportedRun read_run(const std::string& path);

}  // namespace foretoken
