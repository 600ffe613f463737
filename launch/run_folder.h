#pragma once
// The run's folder in the hands of one training job: rank 0 holds its lock from before anything in it is read
// until the job ends.

#include <optional>
#include <string>

#include "io/checkpoint_reader.h"
#include "io/run_directory.h"
#include "io/run_lock.h"
#include "launch/config.h"
#include "launch/console.h"
#include "launch/train.h"
#include "parallel/communicator.h"

namespace foretoken {

class RunFolder {
 public:
  /// Where the arguments name a run (--resume, or --auto-resume's folder): takes its lock, repeats what a
  /// killed job left undone, restores a config.toml that cannot be read from the newest manifest, and decides
  /// what to resume. A UsageError where another job holds the run. Collective.
  RunFolder(Communicator& world, const TrainArguments& arguments, Console& console);

  /// The run or checkpoint to go on with; empty: the run starts afresh.
  const std::string& resume() const { return resume_; }

  /// Makes the folder of a run that starts afresh and takes its lock. Collective.
  void start(const Config& config);
  /// The run goes on from a checkpoint that was loaded, with these settings: starts a branch where it is not
  /// the newest, sets aside what that abandons, and makes metrics.jsonl and config.toml agree. Collective.
  void go_on(const Checkpoint& from, const Config& config);

  /// After start() or go_on().
  const RunDirectory& directory() const { return *directory_; }
  /// On rank 0; a first branch without a parent elsewhere.
  const Lineage& lineage() const { return lineage_; }
  const CheckpointInfo::Parent& parent() const { return parent_; }
  /// On rank 0: a DataError where another job has taken the run over.
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
  std::optional<RunLock> lock_;  // rank 0's
  Lineage lineage_;
  CheckpointInfo::Parent parent_;
};

}  // namespace foretoken
