#pragma once
// The file of a study: a configuration and the settings that vary. It is a configuration file with three
// more tables:
//
//   [study]
//   base = "quickstart.toml"             # optional: beside this file, applied first
//   ranks = 2                            # for every point, default 1
//   directory = "runs/study"             # default runs/STEM, the file's name without .toml
//   launcher = "mpirun -n {ranks}"       # default; a shell line
//   sbatch = ["--partition=gpu"]         # options for the batch files of --slurm
//
//   [train]                              # sections of a configuration, for all points
//   steps = 300
//
//   [axes]                               # every combination is a point, named "kind=linear,depths=2"
//   mtp.kind = ["parallel", "linear"]
//   mtp.depths = [1, 2]
//
//   [[points]]                           # additional points
//   name = "no heads"
//   ranks = 1                            # optional
//   mtp.depths = 0                       # overrides the sections above
//
// `ranks` may also be an axis. A scaling study has a table [scaling] instead of [[points]]
// (launch/study/scaling_section.h). Mistakes are UsageErrors that end with file and line.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "launch/config/config.h"
#include "launch/study/layout_choice.h"

namespace foretoken {

inline constexpr const char* default_launcher = "mpirun -n {ranks}";

struct SweepPoint {
  std::string name;  // also the name of its folder
  int ranks = 1;
  Config config;                                // checked, also for its number of ranks
  std::map<std::string, std::string> settings;  // values of the options in Sweep::swept, as text
  // Of a scaling study:
  std::string group;    // the name without the repeat: points of a group differ in nothing else
  int repeat = 1;       // 1 to ScalingStudy::repeats
  std::string illegal;  // why its ranks cannot have its layout; empty if they can. It is reported, not run.
  bool projected = false;              // more ranks than the study runs: planned only
  std::optional<PlannedStep> planned;  // set by plan_points() (launch/study/study_plan.h)
  std::string unplanned;               // or why there is none

  bool is_run() const { return illegal.empty() && !projected; }
};

struct Sweep {
  std::string title;  // the file's stem
  std::string directory;
  std::string launcher;
  std::vector<std::string> sbatch;
  std::vector<std::string>
      swept;  // options that differ between points; also "ranks" if the number of ranks differs
  /// First the combinations of the axes, the last axis fastest; then [[points]]. In a scaling study the
  /// numbers of ranks are the first axis, and all combinations run once before any runs again, so that a
  /// machine that becomes slower with time does not slow one combination only. Projected points are last.
  std::vector<SweepPoint> points;
  std::optional<ScalingStudy> scaling;
};

/// The point's folder.
inline std::string folder_of(const Sweep& sweep, const SweepPoint& point) {
  return sweep.directory + "/" + point.name;
}

/// `sets` are flags "section.key=value" applied to every point; `best` chooses layouts for scaling.layout =
/// "best".
Sweep read_sweep(const std::string& path, const std::vector<std::string>& sets, const LayoutChoice& best);

}  // namespace foretoken
