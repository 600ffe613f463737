#include "launch/training/run_report.h"

#include <limits>

#include <fmt/format.h>

#include "launch/console/training_lines.h"

namespace foretoken {

namespace {

constexpr int all_columns = std::numeric_limits<int>::max();

using Commands = std::vector<std::pair<std::string, std::string>>;

/// A command that evaluates the run on its ranks, in as many pipeline stages: the whole model may not fit
/// into one rank's memory.
std::string evaluate_command(const Config& config, const std::string& run, const LaunchCommand& launch) {
  const bool held_out = !config.data.validation_path.empty();
  std::string arguments = fmt::format("evaluate {} --data {}", shell_word(run),
                                      shell_word(held_out ? config.data.validation_path : config.data.path));
  if (config.parallel.pp > 1 && config.parallel.pp <= config.model.num_hidden_layers)
    arguments += fmt::format(" --set parallel.pp={}", config.parallel.pp);
  return launch.on_ranks(arguments);
}

}  // namespace

std::string resume_command(const LaunchCommand& launch, const std::string& run) {
  return launch.supervisor.empty() ? launch.on_ranks("train --resume " + shell_word(run)) : launch.supervisor;
}

void RunReport::step(const StepMetrics& metrics, bool last) {
  const double tokens = metrics.tokens_per_second * metrics.milliseconds / 1e3;
  ++trained_;
  ++unshown_;
  tokens_ += tokens;
  milliseconds_ += metrics.milliseconds;
  unshown_tokens_ += tokens;
  unshown_milliseconds_ += metrics.milliseconds;
  last_step_ = metrics;

  const std::optional<int> columns = console_.columns();
  if (trained_ == 1 || last || metrics.step % config_.run.log_every == 0 || is_notable(metrics)) {
    StepMetrics shown = metrics;
    shown.milliseconds = unshown_milliseconds_ / static_cast<double>(unshown_);
    shown.tokens_per_second = 1e3 * unshown_tokens_ / unshown_milliseconds_;
    shown.tflops_per_rank *= shown.tokens_per_second / metrics.tokens_per_second;
    unshown_ = 0;
    unshown_tokens_ = unshown_milliseconds_ = 0;
    console_.line(step_line(shown, all_columns), step_line(shown, columns.value_or(all_columns) - 1));
    if (metrics.heads) console_.line(heads_table(metrics));
  }
  if (columns)
    console_.status(
        last ? "" : training_progress(metrics.step, metrics.steps, metrics.seconds_left, *columns - 1));
}

void RunReport::evaluation(const EvaluationMetrics& metrics) {
  last_evaluation_ = metrics;
  console_.line(evaluation_table(metrics));
}

void RunReport::end(RunSummary::End end, const EndMetrics& metrics, std::int64_t tokens,
                    const std::string& run, const LaunchCommand& launch) {
  Commands commands;
  if (metrics.step > 0) {
    commands.emplace_back("evaluate", evaluate_command(config_, run, launch));
    commands.emplace_back("generate",
                          launch.on_one(fmt::format("generate {} --prompt \"The \"", shell_word(run))));
  }
  if (end == RunSummary::End::stopped)
    commands.emplace_back("resume", resume_command(launch, run));
  else
    commands.emplace_back(
        "extend", fmt::format("{} --set train.steps={}", resume_command(launch, run), 2 * metrics.step));
  console_.status({});
  const RunSummary summary{.end = end,
                           .step = metrics.step,
                           .steps = config_.train.steps,
                           .trained = trained_,
                           .tokens = tokens,
                           .seconds = metrics.seconds,
                           .tokens_per_second = milliseconds_ > 0 ? 1e3 * tokens_ / milliseconds_ : 0,
                           .peak_memory_bytes = metrics.peak_memory_bytes,
                           .last_step = last_step_,
                           .last_evaluation = last_evaluation_,
                           .run = run,
                           .commands = std::move(commands)};
  console_.line(closing_block(summary, all_columns),
                closing_block(summary, console_.columns().value_or(all_columns) - 1));
}

}  // namespace foretoken
