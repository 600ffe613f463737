#pragma once
// How the ranks spend one step: compute, bubble, exposed communication (StepTimes in io/report/metrics.h).

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>

#include "io/report/metrics.h"
#include "launch/session/session.h"
#include "runtime/timing/timeline.h"

namespace foretoken {

/// One rank's part of a step, in seconds. Points in time are relative to the end of the exchange of the
/// step's sums, which all ranks leave together; before it they are negative.
struct RankTimes {
  double pass_begin = 0;   // start of the first action
  double pass_end = 0;     // end of the last action
  double actions = 0;      // in actions
  double other = 0;        // computing, but in no action
  double other_after = 0;  // the part of `other` after the last action
  double end = 0;          // end of the step
  double step = 0;         // whole step
  double data = 0;         // waiting for rows
  double memory = 0;       // bytes
};

/// The rank's times, from spans of a timeline; `exchanged`, `end` and `data` in seconds since the timeline's
/// start.
RankTimes rank_times(std::span<const TimelineSpan> spans, double data, double exchanged, double end,
                     std::int64_t memory);
/// Needs at least one rank.
StepTimes step_times(std::span<const RankTimes> ranks);

/// Measures the step in which it lives. On a GPU, events in the streams are recorded, and finish() waits for
/// them: only logged steps are measured.
class StepProfile {
 public:
  explicit StepProfile(Session& session);
  ~StepProfile();
  StepProfile(const StepProfile&) = delete;
  StepProfile& operator=(const StepProfile&) = delete;

  /// The step's rows are ready.
  void data_ready() { data_ = seconds(); }
  /// The ranks have exchanged the step's sums.
  void exchanged() { exchanged_ = seconds(); }
  /// At the end of the step; `memory`: this rank's. Collective.
  StepTimes finish(std::int64_t memory);

 private:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

  Session& session_;
  std::optional<Timeline> own_;  // unless StepTrace records the step
  std::chrono::steady_clock::time_point start_;
  double data_ = 0, exchanged_ = 0;
};

}  // namespace foretoken
