#pragma once
// Judges what `foretoken doctor` found out. Pure functions.

#include <string>
#include <vector>

#include "launch/doctor/facts.h"

namespace foretoken {

enum class Severity { ok, warning, wrong };
/// "ok", "warning", "WRONG"
const char* name_of(Severity severity);

struct Finding {
  Severity severity = Severity::warning;
  std::string text;  // one sentence that names the ranks
};

/// One row of the table.
struct Check {
  std::string name;
  std::string summary;
  std::vector<Finding> findings;

  Severity severity() const;
};

/// Limits of the speed of a device, as fractions below the median of ranks with the same device. The median
/// of an even number is the faster one of the two in the middle, so that of two ranks the slower one is
/// named.
struct SpeedLimits {
  double warning = 0.05;
  double wrong = 0.10;
};
/// A CPU also serves other programs, so a rank on it is wrong only if it is far slower.
SpeedLimits speed_limits(bool gpu);

/// All checks, in the order of the table.
std::vector<Check> checks(const JobFacts& facts);

/// The highest severity.
Severity worst(const std::vector<Check>& checks);

// Parts of checks(), in files of their own.
std::vector<Check> program_checks(const JobFacts& facts);
std::vector<Check> device_checks(const JobFacts& facts);
std::vector<Check> host_checks(const JobFacts& facts);
std::vector<Check> link_checks(const JobFacts& facts);
std::vector<Check> folder_checks(const JobFacts& facts);

/// For each rank, the other ranks that compete with it for too few cores: their bindings overlap, directly or
/// through other ranks, and together they have more threads than cores. Empty for a rank with enough cores.
std::vector<std::vector<int>> sharing_cores(const JobFacts& facts);
/// For each rank, the other ranks that compute on its GPU.
std::vector<std::vector<int>> sharing_gpu(const JobFacts& facts);

/// "0, 2, 4-7"
std::string numbers_text(std::vector<int> numbers);
/// "rank 3", "ranks 0, 2, 4-7"; in a job of several hosts, with the host of the ranks if it is the same:
/// "rank 3 (node07)".
std::string ranks_text(const JobFacts& facts, const std::vector<int>& ranks);

}  // namespace foretoken
