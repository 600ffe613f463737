#pragma once
// What a pipeline program costs in time, without running it: the timeline of every rank.

#include <string>
#include <vector>

#include "parallel/program.h"
#include "parallel/stage_durations.h"
#include "parallel/validate_program.h"

namespace foretoken {

struct Durations {
  std::vector<StageDurations> stages;  // [stages of the program]
  double message = 0;                  // from when both ends are reached to the arrival
};

/// The same durations for every stage.
Durations uniform_durations(const PipelineShape& shape, double forward, double backward_input,
                            double backward_weight, double message = 0);

struct Span {
  Action action;
  double start = 0;
  double end = 0;
};

struct SimulatedTimeline {
  std::vector<std::vector<Span>> ranks;  // [pp], the compute actions in order

  /// When the last rank is done.
  double makespan() const;
  /// What the rank does not compute of the makespan.
  double idle(int rank) const;
  /// The idle share of all ranks' time.
  double bubble() const;
};

/// A program made ready to be timed, with any durations. A rank runs its compute actions one after another,
/// each as soon as what it takes has arrived and its buffers are free; messages travel at no one's cost and
/// without limit of bandwidth.
class Simulation {
 public:
  Simulation(const Program& lowered, const ProgramFootprint& footprint);

  /// A DefectError unless there are durations for every stage, here and below.
  SimulatedTimeline timeline(const Durations& durations) const;
  /// The timeline's, without making one.
  double makespan(const Durations& durations) const;

 private:
  /// A place among steps_, the first being 1; 0 for the start of all.
  using Place = std::size_t;
  struct Step {
    Action action;
    int rank = 0;
    Place previous = 0;      // of the rank
    std::size_t waited = 0;  // the end of its waits in waits_, which begin where those before it end
  };
  /// A message is under way when the ranks of both its ends are done with these.
  struct Wait {
    Place sender = 0;
    Place receiver = 0;
  };

  template <class Visit>
  void run(const Durations& durations, const Visit& visit) const;

  int stages_;
  std::size_t ranks_;
  std::vector<Step> steps_;  // compute actions, in an order in which they can run
  std::vector<Wait> waits_;
};

SimulatedTimeline simulate(const Program& lowered, const ProgramFootprint& footprint,
                           const Durations& durations);

/// For people: one line per rank over `columns` characters, each action as its kind's letter and microbatch
/// (the stage ahead of it where ranks have several; the letter alone where that does not fit), idle time as
/// dots.
///   rank 0 |F0 F1 ....B0   F2 B1   ...B2   | idle 25 %
std::string render(const SimulatedTimeline& timeline, int columns = 120);

}  // namespace foretoken
