#pragma once
// The points of a study as Slurm job arrays: one array per number of ranks, one element per point.
//
//   STUDY/slurm/ranks_4_1.sbatch    the batch file of the first array of points on 4 ranks
//   STUDY/slurm/ranks_4_1.points    their names, one a line: element N runs line N
//   STUDY/slurm/ranks_4_1-12_3.out  output of element 3 of job 12
//   POINT/job.json                  the element that runs the point, and its state when it was last asked for

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "launch/study/sweep.h"

namespace foretoken {

struct PointJob {
  std::string job;     // "12_3"
  std::string output;  // file
  std::string state;   // "pending", "running", or of an ended one "failed (timeout)"
  std::string reason;  // why it failed

  bool is_queued() const { return state == "pending" || state == "running"; }
};
/// The newest job of a point. Throws a DataError if its file is damaged.
std::optional<PointJob> job_of(const std::string& point_folder);

struct ArrayCommand {
  std::string sweep_file;
  std::vector<std::string> sets;  // of the study's command line
};

/// Throws a UsageError if sbatch or squeue is not in PATH.
void require_slurm();

/// Asks Slurm for the jobs of points without a result, and stores their states. Throws a PeerError if squeue
/// does not answer.
void update_jobs(const Sweep& sweep);

/// Writes the batch files of these points and submits them; each point's old outcome is removed. Calls `log`
/// for every array. Throws a UsageError with sbatch's message if it refuses one; those before it stay
/// submitted.
void submit(const Sweep& sweep, const ArrayCommand& command, const std::vector<const SweepPoint*>& points,
            const std::function<void(const std::string& line)>& log);

}  // namespace foretoken
