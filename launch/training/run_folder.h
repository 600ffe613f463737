#pragma once
// The folder of a run while one training job holds it. Rank 0 takes its lock and keeps it until the job ends.
// What the command line read before that is read again under the lock.

#include <optional>
#include <string>

#include "io/checkpoint/checkpoint_reader.h"
#include "io/checkpoint/run_directory.h"
#include "io/checkpoint/run_lock.h"
#include "launch/config/config.h"
#include "launch/config/train_arguments.h"
#include "launch/console/console.h"
#include "parallel/comm/communicator.h"

namespace foretoken {

class RunFolder {
 public:
  /// If the arguments name a run (--resume, or the folder of --auto-resume): takes its lock, completes what a
  /// killed job left undone, restores an unreadable config.toml from the newest manifest, and decides what to
  /// resume. Throws a UsageError if another job holds the run. Collective.
  RunFolder(Communicator& world, const TrainArguments& arguments, Console& console);

  /// The run or checkpoint to continue; empty: a new run.
  const std::string& resume() const { return resume_; }

  /// Creates the folder of a new run and takes its lock. Collective.
  void start(const Config& config);
  /// Continues the run from a loaded checkpoint with these settings: starts a branch if that is not the
  /// newest checkpoint, sets aside the checkpoints that the branch abandons, and makes metrics.jsonl and
  /// config.toml agree with the checkpoint. Collective.
  void continue_from(const Checkpoint& from, const Config& config);

  /// Requires start() or continue_from().
  const RunDirectory& directory() const { return *directory_; }
  /// Set on rank 0. Other ranks return the defaults: the first branch, no parent.
  const Lineage& lineage() const { return lineage_; }
  const CheckpointInfo::Parent& parent() const { return parent_; }
  /// On rank 0: the first step of the metrics that returned from an abandoned branch.
  std::optional<std::int64_t> first_returned() const { return first_returned_; }
  /// On rank 0: throws a DataError if another job has taken over the run.
  void require_held() const;

 private:
  void claim_resumed();
  void claim_automatic();
  void repair();
  void lock(const std::string& path);
  void record(const Checkpoint& from, const Config& config);
  void truncate(std::int64_t step);

  Communicator& world_;
  const TrainArguments& arguments_;
  Console& console_;
  std::string resume_;
  std::optional<RunDirectory> directory_;
  std::optional<RunLock> lock_;  // set on rank 0
  Lineage lineage_;
  CheckpointInfo::Parent parent_;
  std::optional<std::int64_t> first_returned_;
};

}  // namespace foretoken
