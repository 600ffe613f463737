#pragma once
// The file of a study: a configuration and the settings that vary. It is a configuration file with three
// more tables:
//
//   [study]
//   base = "quickstart.toml"             # optional: beside this file, applied first
//   ranks = 2                            # for every point, default 1
//   directory = "runs/study"             # default runs/STEM, the file's name without .toml
//   launcher = "mpirun -n {ranks}"       # default; a shell line
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
// `ranks` may also be an axis. Mistakes are UsageErrors that end with file and line.

#include <map>
#include <string>
#include <vector>

#include "launch/config/config.h"

namespace foretoken {

struct SweepPoint {
  std::string name;  // also the name of its folder
  int ranks = 1;
  Config config;                                // checked, also for its number of ranks
  std::map<std::string, std::string> settings;  // values of the options in Sweep::swept, as text
};

struct Sweep {
  std::string title;  // the file's stem
  std::string directory;
  std::string launcher;
  std::vector<std::string>
      swept;  // options that differ between points; also "ranks" if the number of ranks differs
  std::vector<SweepPoint>
      points;  // first the combinations of the axes, the last axis fastest; then [[points]]
};

/// `sets` are flags "section.key=value" applied to every point.
Sweep read_sweep(const std::string& path, const std::vector<std::string>& sets);

}  // namespace foretoken
