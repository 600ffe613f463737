#pragma once
// The file of a study: a configuration, and what is varied in it. It is a configuration file with three
// tables more:
//
//   [study]
//   base = "quickstart.toml"             # optional: beside this file, applied first
//   ranks = 2                            # of every point, default 1
//   directory = "runs/study"             # default runs/STEM, the file's name without .toml
//   launcher = "mpirun -n {ranks}"       # default; the shell reads it
//
//   [train]                              # sections of a configuration, for all points
//   steps = 300
//
//   [axes]                               # every combination is a point, named "kind=linear,depths=2"
//   mtp.kind = ["parallel", "linear"]
//   mtp.depths = [1, 2]
//
//   [[points]]                           # and points of their own
//   name = "no heads"
//   ranks = 1                            # optional
//   mtp.depths = 0                       # sections over those above
//
// `ranks` may be an axis too. Mistakes are UsageErrors that begin with file and line.

#include <map>
#include <string>
#include <vector>

#include "launch/config.h"

namespace foretoken {

struct SweepPoint {
  std::string name;  // also of its folder
  int ranks = 1;
  Config config;                                // checked, also against the ranks
  std::map<std::string, std::string> settings;  // of Sweep::swept, as a person writes them
};

struct Sweep {
  std::string title;  // the file's stem
  std::string directory;
  std::string launcher;
  std::vector<std::string> swept;  // options that points differ in, "ranks" among them where they do
  std::vector<SweepPoint> points;  // axes first, the last one fastest; then the others
};

/// `sets` are flags "section.key=value" over every point.
Sweep read_sweep(const std::string& path, const std::vector<std::string>& sets);

}  // namespace foretoken
