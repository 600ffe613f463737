#pragma once
// The slots that a step's programs need, mostly without building programs of all microbatches, which takes
// seconds if there are many.

#include <functional>
#include <map>
#include <string>
#include <tuple>

#include "launch/session/session.h"
#include "parallel/pipeline/program.h"

namespace foretoken {

class StepPrograms {
 public:
  /// Sets the footprints of session.training and session.evaluation to those of steps with more and more
  /// microbatches, and calls fits() after each; slots never become fewer. Ends when fits() returns false, or
  /// with the slots of the whole step. Returns the last result of fits().
  ///
  /// A program of four times the microbatches that needs no more slots has filled the pipeline, so that the
  /// whole step needs no more either. Groups of interleaved_1f1b have the sizes of the whole step only if pp
  /// divides the microbatches; otherwise the whole programs are built.
  bool visit(SessionPlan& session, const std::function<bool()>& fits);

 private:
  void set(SessionPlan& session, const PipelineShape& shape);

  using Key = std::tuple<std::string, int, int, int>;  // schedule, pp, stages per rank, microbatches
  std::map<Key, ProgramFootprint> training_;
  std::map<Key, ProgramFootprint> evaluation_;  // without schedule
  std::map<Key, Program> programs_;             // of one microbatch: they have a step's kinds of actions
};

}  // namespace foretoken
