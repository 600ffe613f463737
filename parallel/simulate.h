#pragma once
// What a pipeline program costs in time, without running it: the timeline of every rank.

#include <string>
#include <vector>

#include "parallel/program.h"
#include "parallel/validate_program.h"

namespace foretoken {

/// Times of one microbatch on one stage, in any one unit.
struct StageDurations {
  double forward = 0;
  double backward = 0;
  double backward_input = 0;
  double backward_weight = 0;
};

struct Durations {
  std::vector<StageDurations> stages;  // [stages of the program]
  double message = 0;                  // from when both ends are reached to the arrival
};

/// The same durations for every stage, the whole backward being both halves.
Durations uniform_durations(const PipelineShape& shape, double forward, double backward_input,
                            double backward_weight, double message = 0);

struct Span {
  Action action;
  double start = 0;
  double end = 0;
};

struct Timeline {
  std::vector<std::vector<Span>> ranks;  // [pp], the compute actions in order

  /// When the last rank is done.
  double makespan() const;
  /// What the rank does not compute of the makespan.
  double idle(int rank) const;
  /// The idle share of all ranks' time.
  double bubble() const;
};

/// A rank runs its compute actions one after another, each as soon as what it takes has arrived and its
/// buffers are free; messages travel at no one's cost and without limit of bandwidth.
/// A DefectError unless there are durations for every stage.
Timeline simulate(const Program& lowered, const ProgramFootprint& footprint, const Durations& durations);

/// For people: one line per rank over `columns` characters, each action as its kind's letter and microbatch
/// (the stage ahead of it where ranks have several; the letter alone where that does not fit), idle time as
/// dots.
///   rank 0 |F0 F1 ....B0   F2 B1   ...B2   | idle 25 %
std::string render(const Timeline& timeline, int columns = 120);

}  // namespace foretoken
