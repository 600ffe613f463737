#pragma once
// foretoken study: runs the points of a sweep one after another and reports them side by side.
//
// The study's folder:
//   study.csv, study.html, figures/*.svg     the report (launch/study_report.h), renewed after every point
//   log.txt                                  what the console showed
//   POINT/config.toml                        the settings that the point was given
//   POINT/data.json                          its datasets: path and identity
//   POINT/run/                               its run folder
//   POINT/output.txt                         what its launcher printed
//   POINT/outcome.json                       {"exit_code": 0, "seconds": 71.3}, once it has ended
//
// A point with exit code 0 is done and not run again. One that failed or was stopped goes on from its newest
// checkpoint, or begins anew where it has none.

#include <string>
#include <vector>

namespace foretoken {

struct StudyArguments {
  std::string sweep;
  std::string launcher;           // instead of the sweep's; empty: that
  std::vector<std::string> sets;  // section.key=value over every point
};

/// Returns 0 where all points are done, 75 where a stop signal came, else the code of the first that failed.
int study(const StudyArguments& arguments);

}  // namespace foretoken
