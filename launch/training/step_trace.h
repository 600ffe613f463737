#pragma once
// The timeline of one training step, collected from all ranks.

#include <filesystem>
#include <string>

#include "launch/session/session.h"
#include "runtime/timing/timeline.h"

namespace foretoken {

/// Records during its lifetime. The constructor is collective: the ranks' clocks start together.
class StepTrace {
 public:
  explicit StepTrace(Session& session);
  ~StepTrace();
  StepTrace(const StepTrace&) = delete;
  StepTrace& operator=(const StepTrace&) = delete;

  /// Writes the recorded timeline, and returns a summary of how busy the ranks were and how much of NCCL's
  /// communication was hidden by compute: "step 20: 560.2 ms, compute 87.2 % (rank 0) to 93.9 % (rank 1),
  /// communication at most 34.1 ms, 74.8 % (rank 1) to 97.0 % (rank 0) of it under compute;
  /// runs/a/trace_00000020.json". Collective; the text is the same on all ranks.
  std::string write(const std::filesystem::path& file, std::int64_t step);

 private:
  Session& session_;
  Timeline timeline_;
};

}  // namespace foretoken
