#pragma once
// All outputs of a training run's metrics, on its rank 0. A failed write of one is reported once and changes
// nothing for the others or for the run.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "io/report/metrics.h"
#include "io/report/prometheus.h"
#include "io/report/tensorboard.h"

namespace foretoken {

class MetricsOutputs {
 public:
  struct Options {
    std::filesystem::path run;  // the run's folder
    std::int64_t branch = 1;
    bool tensorboard = false;          // event files in RUN/tensorboard
    std::filesystem::path prometheus;  // empty: no file
    /// First step whose metrics in earlier event files no longer hold.
    std::int64_t from = 0;
  };
  /// Opens RUN/metrics.jsonl and the others. Throws a DataError if one cannot be opened.
  MetricsOutputs(const Options& options, const std::function<void(const std::string&)>& warn);

  void write(const StepMetrics& metrics);
  void write(const EvaluationMetrics& metrics);
  void write(const EndMetrics& metrics);
  /// Returns when everything written is on disk. Callable from another thread.
  void sync();

 private:
  MetricsSink lines_;
  std::optional<TensorboardSink> tensorboard_;
  std::optional<PrometheusSink> prometheus_;
  std::function<void(const std::string&)> warn_;
};

}  // namespace foretoken
