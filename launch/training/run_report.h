#pragma once
// The lines that rank 0 prints while a run trains and when it ends. On other ranks the console is silent.

#include <cstdint>
#include <optional>
#include <string>

#include "launch/config/config.h"
#include "launch/console/closing_block.h"
#include "launch/console/console.h"
#include "launch/training/launch_command.h"

namespace foretoken {

class RunReport {
 public:
  /// Both arguments must outlive the report.
  RunReport(Console& console, const Config& config) : console_(console), config_(config) {}

  /// Shows the progress. Prints a line for the first step, the last step, every multiple of run.log_every,
  /// and notable steps (is_notable()). Time, tokens/s and FLOP/s of a line are means over the steps since the
  /// previous line; bubble, communication and memory are the step's.
  void step(const StepMetrics& metrics, bool last);
  void evaluation(const EvaluationMetrics& metrics);

  /// Prints the closing block, when no more steps are trained. `tokens` were seen in the whole run.
  void end(RunSummary::End end, const EndMetrics& metrics, std::int64_t tokens, const std::string& run,
           const LaunchCommand& launch);

 private:
  Console& console_;
  const Config& config_;
  std::optional<StepMetrics> last_step_;
  std::optional<EvaluationMetrics> last_evaluation_;
  std::int64_t trained_ = 0;                              // steps
  double tokens_ = 0, milliseconds_ = 0;                  // sums of this launch
  double unshown_tokens_ = 0, unshown_milliseconds_ = 0;  // since the previous line
  std::int64_t unshown_ = 0;                              // steps
};

/// The command that continues a run after it was stopped.
std::string resume_command(const LaunchCommand& launch, const std::string& run);

}  // namespace foretoken
