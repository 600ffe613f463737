#include "io/report/prometheus.h"

#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "io/files/durable_file.h"
#include "io/files/printable.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

std::string number_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

/// The value of a label: backslash, quote and line feed are escaped, and other control characters are made
/// visible.
std::string label_text(std::string_view text) {
  std::string escaped;
  for (const char c : printable(text)) {
    if (c == '\\' || c == '"') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

class Exposition {
 public:
  explicit Exposition(const std::string& run) : run_(label_text(run)) {}

  /// Starts a metric; its samples follow.
  void metric(const char* name, const char* help, const char* type = "gauge") {
    name_ = name;
    text_ += fmt::format("# HELP foretoken_{} {}\n# TYPE foretoken_{} {}\n", name, help, name, type);
  }
  void sample(double value, const char* label = nullptr, const std::string& of = {}) {
    text_ += fmt::format("foretoken_{}{{run=\"{}\"", name_, run_);
    if (label) text_ += fmt::format(",{}=\"{}\"", label, of);
    text_ += fmt::format("}} {}\n", number_text(value));
  }
  void one(const char* name, const char* help, double value, const char* type = "gauge") {
    metric(name, help, type);
    sample(value);
  }
  template <class Value>
  void by_rank(const char* name, const char* help, const std::vector<Value>& values) {
    metric(name, help);
    for (std::size_t rank = 0; rank < values.size(); ++rank)
      sample(static_cast<double>(values[rank]), "rank", std::to_string(rank));
  }
  /// Values of depths, of which the first is `first`.
  void by_depth(const char* name, const char* help, const std::vector<double>& values, std::size_t first) {
    if (values.empty()) return;
    metric(name, help);
    for (std::size_t i = 0; i < values.size(); ++i) sample(values[i], "depth", depth_name(first + i));
  }
  std::string text() const { return text_; }

 private:
  std::string run_, name_, text_;
};

}  // namespace

std::string prometheus_text(const PrometheusState& state) {
  Exposition out(state.run);
  out.one("running", "1 while the run trains, 0 after it has ended or stopped.", state.running ? 1 : 0);
  out.one("last_report_timestamp_seconds", "Unix time of the newest step or evaluation.", state.seconds);
  if (state.step) {
    const StepMetrics& step = *state.step;
    out.one("step", "Finished steps of the run.", static_cast<double>(step.step));
    out.one("steps", "Steps of the whole run.", static_cast<double>(step.steps));
    out.one("tokens_seen_total", "Tokens that the run has trained on.", static_cast<double>(step.tokens_seen),
            "counter");
    out.one("skipped_steps_total", "Steps without an update, because loss or gradient norm was not finite.",
            static_cast<double>(step.skipped_steps), "counter");
    out.one("objective", "Objective of the last step: main loss and weighted losses of the depths.",
            step.loss);
    out.by_depth("loss", "Training loss of the last step in nats per token.", step.depth_losses, 0);
    out.one("gradient_norm", "Global gradient norm before clipping.", step.grad_norm);
    out.one("learning_rate", "Learning rate of the last step.", step.lr);
    out.one("step_seconds", "Duration of the last step.", step.milliseconds / 1e3);
    out.one("tokens_per_second", "Tokens per second of the last step, over all ranks.",
            step.tokens_per_second);
    out.one("tflops_per_rank", "Model TFLOP/s of a rank in the last step.", step.tflops_per_rank);
    out.one("seconds_left", "Expected time until the last step.", step.seconds_left);
  }
  if (state.heads) {
    out.by_depth("acceptance",
                 "Share of positions whose drafts up to this depth are the main model's choices.",
                 state.heads->acceptance, 1);
    out.one("accepted_length", "Expected tokens per round of speculative decoding.",
            state.heads->accepted_length);
  }
  if (state.times) {
    const StepTimes& times = *state.times;
    out.metric("step_time_share", "Share of a step's time by kind, mean over ranks.");
    out.sample(times.compute, "kind", "compute");
    out.sample(times.bubble, "kind", "bubble");
    out.sample(times.exposed_communication, "kind", "exposed_communication");
    out.sample(times.optimizer, "kind", "optimizer");
    out.sample(times.data, "kind", "data");
    out.by_rank("rank_compute_seconds", "Time that the rank computed in a step.", times.compute_seconds);
    out.by_rank("rank_memory_bytes", "Peak resident memory of the rank, or memory in use of its GPU.",
                times.memory_bytes);
  }
  if (state.evaluation) {
    out.one("evaluation_step", "Step of the newest evaluation.", static_cast<double>(state.evaluation->step));
    out.by_depth("evaluation_loss", "Loss of the newest evaluation in nats per token.",
                 state.evaluation->depth_losses, 0);
  }
  return out.text();
}

PrometheusSink::PrometheusSink(std::filesystem::path file, std::string run,
                               std::function<void(const std::string&)> warn)
    : file_(std::move(file)), state_{.run = std::move(run)}, warn_(std::move(warn)) {}

void PrometheusSink::write(const StepMetrics& metrics) {
  state_.step = metrics;
  if (metrics.times) state_.times = metrics.times;
  if (metrics.heads) state_.heads = metrics.heads;
  replace(false);
}

void PrometheusSink::write(const EvaluationMetrics& metrics) {
  state_.evaluation = metrics;
  replace(false);
}

void PrometheusSink::end() {
  state_.running = false;
  replace(true);
}

void PrometheusSink::replace(bool now) try {
  using namespace std::chrono;
  if (state_.running) state_.seconds = duration<double>(system_clock::now().time_since_epoch()).count();
  if (!now && written_ && Clock::now() - *written_ < seconds(1)) return;
  written_ = Clock::now();
  write_durably(file_, prometheus_text(state_));
} catch (const DataError& error) {
  if (!std::exchange(warned_, true)) warn_(fmt::format("prometheus: {}", error.what()));
}

}  // namespace foretoken
