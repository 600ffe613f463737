#pragma once
// Compares an interrupted and resumed run with an uninterrupted one.

#include "tests/support/catch.h"
#include "tests/support/models/training_lab.h"

namespace foretoken::testing {

/// Checks that a run of `steps` steps in `layout` that stops after `stop_after` steps and resumes in `layout`
/// ends with the bits of the uninterrupted run. If it resumes in layout `other`, mismatch(run, expected,
/// moved) must be empty, where `moved` is the relative tolerance. Collective over the ranks.
template <class Mismatch>
void check_resume(const TrainingLab& lab, MpiCommunicator& ranks, const Sets& sets, const Sets& layout,
                  const Sets& other, int steps, int stop_after, double moved, const Mismatch& mismatch) {
  const std::string whole = lab.path(name_of(sets) + "whole"), parts = lab.path(name_of(sets) + "parts"),
                    elsewhere = lab.path(name_of(sets) + "moved");
  CHECK(lab.train(ranks, sets + layout, {.run_directory = whole}) == ExitCode::done);
  for (const std::string& run : {parts, elsewhere})
    CHECK(lab.train(ranks, sets + layout, {.stop_after = stop_after, .run_directory = run}) ==
          ExitCode::resumable);
  CHECK(lab.train(ranks, sets + layout, {.resume = parts}) == ExitCode::done);
  CHECK(lab.train(ranks, sets + other, {.resume = elsewhere}) == ExitCode::done);
  if (ranks.rank() != 0) return;
  CHECK(mismatch(parts, whole, 0) == "");
  CHECK(mismatch(elsewhere, whole, moved) == "");
  for (const char* kind : {"model", "exp_avg", "exp_avg_sq"})
    CHECK(tensor_mismatch(TrainingLab::checkpoint(parts, steps), TrainingLab::checkpoint(whole, steps), kind,
                          0, 0) == "");
}

}  // namespace foretoken::testing
