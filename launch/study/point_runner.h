#pragma once
// Runs one point of a study in its folder (launch/study/study.h lists the files).

#include <string>

#include "launch/console/console.h"
#include "launch/study/study_data.h"
#include "launch/study/sweep.h"

namespace foretoken {

class PointRunner {
 public:
  PointRunner(const Sweep& sweep, Console& console) : sweep_(sweep), console_(console) {}

  /// Throws a UsageError if the point has run before with other settings or other data: its row would mix
  /// both. Throws a DataError if a file of the point is damaged.
  void require_unchanged(const SweepPoint& point);
  /// Writes the settings and the identities of the data of a point that has not run.
  void prepare(const SweepPoint& point);
  /// Trains the point and stores its outcome. Lines on the console begin with `label`. In a scaling study a
  /// point that is not finished starts again, because a measurement in two parts is none; of a finished one
  /// the checkpoints are removed, because nobody continues from a few measured steps.
  void run(const SweepPoint& point, const std::string& label);

 private:
  void tell(const SweepPoint& point, const std::string& label, int code, double seconds);

  const Sweep& sweep_;
  Console& console_;
  StudyData data_;
};

/// Creates a folder and its parents if necessary. Throws a DataError on failure. Returns it.
const std::string& made(const std::string& folder);

/// The line of a failed run's output that gives the reason: the program's error message if there is one, else
/// Slurm's, else the last line.
std::string reason_in(const std::string& output_file);

}  // namespace foretoken
