#pragma once
// The last lines of a training run: the step and losses that it reached, its folder, and commands that use
// it.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "io/report/metrics.h"

namespace foretoken {

struct RunSummary {
  enum class End { done, stopped, nothing_left };

  End end = End::done;
  std::int64_t step = 0;         // reached
  std::int64_t steps = 0;        // steps of the whole run
  std::int64_t trained = 0;      // steps of this launch
  std::int64_t tokens = 0;       // seen in the whole run
  double seconds = 0;            // from the first step of this launch on, evaluations and saves included
  double tokens_per_second = 0;  // mean over the steps of this launch
  std::int64_t peak_memory_bytes = 0;  // largest over the ranks
  std::optional<StepMetrics> last_step;
  std::optional<EvaluationMetrics> last_evaluation;           // on held-out data
  std::string run;                                            // its folder
  std::vector<std::pair<std::string, std::string>> commands;  // label of at most 9 characters, command
};

///   done       400 steps in 1m 13s, 1.64 M tokens, 22400 tokens/s, peak memory 215 MB a rank
///   loss         total    main    mtp1    mtp2
///     training  2.3456  2.1000  2.4000  2.6200
///     held out  2.4010  2.1500  2.4500  2.7000  at step 400
///   run        runs/first
///   evaluate   mpirun -n 4 foretoken evaluate runs/first --data validation.h5
/// The first line is wrapped at `columns`. Commands are not wrapped, so that they can be copied.
std::string closing_block(const RunSummary& summary, int columns);

}  // namespace foretoken
