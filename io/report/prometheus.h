#pragma once
// The state of a run as a text file in Prometheus' exposition format (version 0.0.4), for the textfile
// collector of node_exporter:
//
//   # HELP foretoken_loss Training loss of the last step in nats per token.
//   # TYPE foretoken_loss gauge
//   foretoken_loss{run="run-20261122T003356Z",depth="main"} 2.1
//   # HELP foretoken_rank_memory_bytes Memory of the rank.
//   # TYPE foretoken_rank_memory_bytes gauge
//   foretoken_rank_memory_bytes{run="run-20261122T003356Z",rank="0"} 214958080
//
// Every sample has the label run; those of ranks have rank. foretoken_running is 0 after the end of a launch.

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "io/report/metrics.h"

namespace foretoken {

/// What a run has reported so far.
struct PrometheusState {
  std::string run;
  bool running = true;
  double seconds = 0;  // UTC since 1970 of the newest report
  std::optional<StepMetrics> step;
  std::optional<StepTimes> times;  // of the newest step that measured them
  std::optional<HeadsMetrics> heads;
  std::optional<EvaluationMetrics> evaluation;
};

/// The whole file.
std::string prometheus_text(const PrometheusState& state);

/// Replaces the file as a whole, at most once a second and when the launch ends. A failed write leaves the
/// old file, is reported once and throws nothing.
class PrometheusSink {
 public:
  PrometheusSink(std::filesystem::path file, std::string run, std::function<void(const std::string&)> warn);

  void write(const StepMetrics& metrics);
  void write(const EvaluationMetrics& metrics);
  /// The launch has ended.
  void end();

 private:
  using Clock = std::chrono::steady_clock;

  void replace(bool now);

  std::filesystem::path file_;
  PrometheusState state_;
  std::function<void(const std::string&)> warn_;
  std::optional<Clock::time_point> written_;
  bool warned_ = false;
};

}  // namespace foretoken
