#pragma once
// Predicts the timeline of every rank of a pipeline program without running it.

#include <string>
#include <vector>

#include "parallel/pipeline/program.h"
#include "parallel/pipeline/validate_program.h"
#include "parallel/planning/stage_durations.h"

namespace foretoken {

struct Durations {
  std::vector<StageDurations> stages;  // [stages of the program]
  double message = 0;  // time of a message, from when both ranks have reached it to its arrival
};

struct Span {
  Action action;
  double start = 0;
  double end = 0;
};

/// The time of a compute action on its stage; 0 for a message.
double duration_of(ActionKind kind, const StageDurations& stage);

struct SimulatedTimeline {
  std::vector<std::vector<Span>> ranks;  // [pp], the compute actions in order

  /// End time of the last rank.
  double makespan() const;
  /// Time within the makespan in which the rank does not compute.
  double idle(int rank) const;
  /// Idle share of the time of all ranks together.
  double bubble() const;
};

/// A program prepared for simulation with any durations. A rank runs its compute actions in order, each as
/// soon as its inputs have arrived and its buffers are free. Messages use no compute time, and bandwidth is
/// unlimited.
class Simulation {
 public:
  Simulation(const Program& lowered, const ProgramFootprint& footprint);

  /// Throws DefectError unless `durations` has every stage, as makespan() does.
  SimulatedTimeline timeline(const Durations& durations) const;
  /// The makespan of timeline(durations), computed without storing the timeline.
  double makespan(const Durations& durations) const;

  /// A point in time: place i > 0 is the end of steps()[i − 1], place 0 the start of the timeline.
  using Place = std::size_t;
  struct Step {
    Action action;
    int rank = 0;
    Place previous = 0;      // previous step of the same rank
    std::size_t waited = 0;  // end of its waits in waits(); they start at the end of the previous step's
  };
  /// A message starts when both of its ranks have reached these places.
  struct Wait {
    Place sender = 0;
    Place receiver = 0;
    Action send;
  };
  /// The compute actions, in an order in which they can run.
  const std::vector<Step>& steps() const { return steps_; }
  const std::vector<Wait>& waits() const { return waits_; }

 private:
  template <class Visit>
  void run(const Durations& durations, const Visit& visit) const;

  int stages_;
  std::size_t ranks_;
  std::vector<Step> steps_;
  std::vector<Wait> waits_;
};

SimulatedTimeline simulate(const Program& lowered, const ProgramFootprint& footprint,
                           const Durations& durations);

/// Draws a timeline as text, one line per rank. The time axis is `columns` characters wide. An action is the
/// letter of its kind and its microbatch, after its stage if ranks have several stages; a short action is
/// only the letter. Dots are idle time.
///   rank 0 |F0 F1 ....B0   F2 B1   ...B2   | idle 25 %
std::string render(const SimulatedTimeline& timeline, int columns = 120);

}  // namespace foretoken
