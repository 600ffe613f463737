#include "io/report/metrics_outputs.h"

#include <chrono>

#include "io/report/metrics_json.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

namespace fs = std::filesystem;

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// The folder's own name, also of "." and "run/".
std::string name_of_run(const fs::path& run) {
  const fs::path whole = fs::weakly_canonical(run);
  return whole.filename().string();
}

}  // namespace

MetricsOutputs::MetricsOutputs(const Options& options, const std::function<void(const std::string&)>& warn)
    : lines_((options.run / "metrics.jsonl").string(), warn, options.branch), warn_(warn) {
  if (options.tensorboard)
    tensorboard_.emplace(options.run / "tensorboard", options.run / "metrics.jsonl", options.from, warn);
  if (!options.prometheus.empty()) prometheus_.emplace(options.prometheus, name_of_run(options.run), warn);
}

void MetricsOutputs::write(const StepMetrics& metrics) {
  lines_.write(metrics);
  if (tensorboard_) tensorboard_->write(json_of(metrics), now());
  if (prometheus_) prometheus_->write(metrics);
}

void MetricsOutputs::write(const EvaluationMetrics& metrics) {
  lines_.write(metrics);
  if (tensorboard_) tensorboard_->write(json_of(metrics), now());
  if (prometheus_) prometheus_->write(metrics);
}

void MetricsOutputs::write(const EndMetrics& metrics) {
  lines_.write(metrics);
  if (tensorboard_) tensorboard_->write(json_of(metrics), now());
  if (prometheus_) prometheus_->end();
}

void MetricsOutputs::sync() try {
  lines_.sync();
  if (tensorboard_) tensorboard_->sync();
} catch (const DataError& error) {
  warn_(error.what());
}

}  // namespace foretoken
