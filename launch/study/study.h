#pragma once
// foretoken study: runs the points of a sweep one after another and reports them side by side.
//
// The study's folder:
//
//   study.csv, study.html, figures/*.svg   the report (study_report.h), rewritten after every point
//   scaling.csv                            of a scaling study: one row per number of ranks
//   log.txt                                the console's output
//   POINT/config.toml                      the point's settings
//   POINT/data.json                        its datasets: path and identity
//   POINT/run/                             its run folder
//   POINT/output.txt                       its launcher's output
//   POINT/outcome.json                     {"exit_code": 0, "seconds": 71.3, "command": "..."},
//                                          once the point has ended; of a failure also "reason"
//   slurm/, POINT/job.json                 batch files and jobs of --slurm (slurm_array.h)
//
// A point with exit code 0 is done and is not run again. A point that failed or was stopped continues from
// its newest checkpoint or, if it has no checkpoint, from step 0. In a scaling study it starts again, because
// a resumed run is no measurement; finished repeats are kept, without their checkpoints.

#include <string>
#include <vector>

namespace foretoken {

struct StudyArguments {
  std::string sweep;
  std::string launcher;           // replaces the sweep's launcher; empty: keep it
  std::vector<std::string> sets;  // section.key=value applied to every point
  bool slurm = false;             // submit the points as job arrays (launch/study/slurm_array.h), or collect
  bool resubmit = false;          // also submit failed and stopped points again
  std::string point;              // run this point only, without a report; empty: all
};

/// Returns 0 if all points are done, 75 after a stop signal or while jobs are pending or running, otherwise
/// the code of the first point that failed; 5 if its job ended without one.
int study(const StudyArguments& arguments);

}  // namespace foretoken
