#pragma once
// The results of a scaling study, one row per number of ranks and other settings: its repeats as a median and
// their spread, compared with the fewest ranks.

#include <optional>
#include <string>
#include <vector>

#include "launch/study/study_report.h"

namespace foretoken {

/// Of the repeats that are done.
struct Spread {
  double median = 0, lowest = 0, highest = 0;
};

/// Where a step's time goes, in milliseconds: means over ranks and repeats.
struct TimePart {
  const char* name;
  double milliseconds = 0;
};

struct ScalingRow {
  std::string group;   // name of the points without the repeat: "ranks=4,pp=2"
  std::string series;  // the same without the ranks: "pp=2"; "measured" if nothing else varies
  int ranks = 1;
  const SweepPoint* point = nullptr;  // of the first repeat
  std::string layout;                 // "pp 2 × dp 2 × v 1, 1f1b"; empty if illegal
  int done = 0, repeats = 0;
  std::string status;   // "done", "2 of 3 done", "illegal", "projected", or the status of the first repeat
  std::string reason;   // why it is illegal, why a repeat failed, or why there is no plan
  std::string sharing;  // MachineRecord::sharing()
  std::optional<Spread> tokens_per_second, milliseconds;
  /// tokens/s divided by that of the baseline: the fastest row with the fewest ranks among those that differ
  /// in ranks and layout only; and the same divided by the ratio of the ranks.
  std::optional<double> speedup, efficiency;
  const ScalingRow* baseline = nullptr;           // nullptr if none is measured
  std::vector<TimePart> time;                     // empty if no repeat is done
  std::optional<std::int64_t> peak_memory_bytes;  // the highest of the repeats
  /// The plan's tokens/s divided by its tokens/s of the baseline or, if none is measured, of the fastest plan
  /// with the fewest ranks.
  std::optional<double> planned_speedup, planned_efficiency;

  const std::optional<PlannedStep>& planned() const { return point->planned; }
};

/// Marks of rows whose ranks share cores or GPUs: "*" for the first text of ScalingRow::sharing, "†" for the
/// next.
class SharingMarks {
 public:
  explicit SharingMarks(const std::vector<ScalingRow>& rows);
  /// Empty if nothing is shared.
  std::string of(const ScalingRow& row) const;
  /// "* 4 ranks on 2 cores", one line per mark.
  std::vector<std::string> notes() const;

 private:
  std::vector<std::string> texts_;
};

/// In the order of the sweep.
std::vector<ScalingRow> scaling_rows(const Sweep& sweep, const std::vector<PointResult>& results);

/// scaling.csv.
std::string scaling_csv(const std::vector<ScalingRow>& rows);

/// Columns that study.csv has in a scaling study in addition, and the fields of a run.
std::vector<std::string> run_columns();
std::vector<std::string> run_fields(const Sweep& sweep, const PointResult& result);

}  // namespace foretoken
