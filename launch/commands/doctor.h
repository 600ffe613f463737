#pragma once
// foretoken doctor: checks the machine before a long job. It compares versions, measures devices and links on
// all ranks at the same time, and checks limits, clocks and the run folder. See launch/docs/doctor.md.

#include <string>
#include <vector>

#include "launch/config/config.h"

namespace foretoken {

struct DoctorArguments {
  std::string config_path;        // empty: one pipeline of all ranks
  std::string run;                // run folder, or empty
  bool json = false;              // print JSON instead of a table
  std::string save;               // file for the measured rates, or empty
  std::vector<std::string> sets;  // "section.key=value"
};

/// Returns the exit code: 5 if something is wrong.
int doctor(const Config& config, const DoctorArguments& arguments);

}  // namespace foretoken
