#include "launch/console/closing_block.h"

#include <algorithm>

#include <fmt/format.h>

#include "launch/console/progress_bar.h"
#include "launch/console/terminal.h"
#include "launch/console/training_lines.h"
#include "runtime/plural.h"

namespace foretoken {

namespace {

std::string count_text(std::int64_t count) {
  const auto value = static_cast<double>(count);
  if (count < 100'000) return std::to_string(count);
  return count < 1'000'000'000 ? fmt::format("{:.2f} M", value / 1e6) : fmt::format("{:.2f} G", value / 1e9);
}

std::string first_line(const RunSummary& summary) {
  std::string text;
  switch (summary.end) {
    case RunSummary::End::nothing_left:
      return fmt::format("done       the run has trained {}, train.steps is {}: nothing is left to train",
                         counted(summary.step, "step"), summary.steps);
    case RunSummary::End::done:
      text = fmt::format("done       {}", counted(summary.step, "step"));
      break;
    case RunSummary::End::stopped:
      text = fmt::format("stopped    at step {} of {}", summary.step, summary.steps);
      break;
  }
  if (summary.trained == 0) return text + ", before the first step of this launch";
  if (summary.trained < summary.step) text += fmt::format(", {} of them in this launch", summary.trained);
  return text + fmt::format(" in {}, {} tokens seen, {:.0f} tokens/s, peak memory {} a rank",
                            duration_in_words(summary.seconds), count_text(summary.tokens),
                            summary.tokens_per_second,
                            format_bytes(static_cast<double>(summary.peak_memory_bytes)));
}

std::string losses_text(const char* what, double total, const std::vector<double>& depths) {
  std::string text = fmt::format("\n  {:<8}", what);
  if (depths.size() > 1) text += "  " + loss_text(total);
  for (const double loss : depths) text += "  " + loss_text(loss);
  return text;
}

std::string losses_table(const RunSummary& summary) {
  const auto& step = summary.last_step;
  const auto& evaluation = summary.last_evaluation;
  if (!step && !evaluation) return {};
  const std::size_t depths = (step ? step->depth_losses : evaluation->depth_losses).size();
  std::string text = "\nloss      ";
  if (depths > 1) text += "   total";
  for (std::size_t k = 0; k < depths; ++k) text += fmt::format("  {:>6}", depth_name(k));
  if (step) text += losses_text("training", step->loss, step->depth_losses);
  if (evaluation) {
    text += losses_text("held out", evaluation->loss, evaluation->depth_losses);
    if (evaluation->step != summary.step) text += fmt::format("  at step {}", evaluation->step);
  }
  return text;
}

}  // namespace

std::string closing_block(const RunSummary& summary, int columns) {
  std::string text =
      wrapped(first_line(summary), columns, 11) + losses_table(summary) + "\nrun        " + summary.run;
  for (const auto& [purpose, command] : summary.commands)
    text += fmt::format("\n{:<9}  {}", purpose, command);
  return text;
}

}  // namespace foretoken
