#pragma once
// Saves checkpoints while training goes on. Ranks coordinate through the filesystem alone: each writes a
// shard and then a vote (shard_00002.json); rank 0 publishes once every rank has voted.
//
// Two moments are told apart. "staged": this rank's tensors are copied, training may change them. "committed"
// (rank 0): every shard, the view and the manifest are on disk, synced and renamed to their final name. Only
// what is committed survives a crash.
//
// The directory must be one filesystem that every rank sees, with atomic rename (POSIX; NFS and Lustre too).

#include <atomic>
#include <chrono>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "io/checkpoint_shard.h"
#include "runtime/staging.h"

namespace foretoken {

/// The points that a save passes, in order: on every rank `staged` to `voted`, the others on rank 0.
enum class SavePhase {
  prepared,
  staged,
  shard_half_written,
  shard_synced,
  voted,
  votes_collected,
  view_written,
  manifest_written,
  older_set_aside,
  published,
  retired
};

struct CheckpointWriterOptions {
  int keep = 3;  // newest checkpoints to keep, at least 1
  /// How long rank 0 waits for the shards of the others after its own is safe.
  std::chrono::milliseconds vote_timeout = std::chrono::minutes(30);
  /// What the first save goes on from, and the line of all of them (io/lineage.h).
  CheckpointInfo::Parent parent;
  Lineage lineage;
  /// Called on rank 0, from the writer's thread, when all is written and before it is published. What it
  /// throws gives the save up.
  std::function<void()> before_publication;
  /// Takes one line for people. "staged" comes from the calling thread, "committed" from the writer's own.
  std::function<void(const std::string&)> log;
  /// Called at every phase, from either thread: where fault injection strikes.
  std::function<void(SavePhase)> on_phase;
};

class CheckpointWriter {
 public:
  /// `directory` is RUN/checkpoints; it is made by the first save.
  CheckpointWriter(std::filesystem::path directory, int rank, int world,
                   CheckpointWriterOptions options = {});
  /// Ends the thread. On rank 0 a save still waiting for other ranks is given up and published never: call
  /// finish() first.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Starts saving step info.step. Collective: every rank calls it with the same info and with its own
  /// pieces, any number; over all ranks the pieces of each tensor tile it exactly once. Waits for the
  /// previous save, passes `barrier` once (it returns when every rank has called it; may be empty for one
  /// rank), copies the pieces and returns. A step that exists already is replaced, and stays loadable until
  /// it is.
  ///
  /// Throws what the previous save failed with, before the barrier; a DefectError for pieces that contradict
  /// themselves; a DataError where the directory cannot be made.
  void save(const CheckpointInfo& info, std::span<const CheckpointPiece> pieces,
            const std::function<void()>& barrier);

  /// Takes the memory that a save of these pieces needs beforehand, so that the first one stalls no longer
  /// than the others: worth it for tensors on a GPU, whose copies go to page-locked memory.
  void reserve(std::span<const CheckpointPiece> pieces);

  /// Throws what a save has failed with, once, without waiting: on the rank that failed a DataError (disk
  /// full, with path and bytes); on rank 0 that of any rank, a PeerError for ranks that have not voted in
  /// time, a DefectError naming a tensor that has a hole or an overlap. Nothing is published then, what was
  /// complete stays, and the next save may be tried.
  void check();
  /// Waits until this rank's part of the save is over (on rank 0: until it is committed), then check()s.
  void finish();

 private:
  struct Save;
  void take(std::span<const CheckpointPiece> pieces);
  std::int64_t stage();
  void run(const Save& save) noexcept;
  void write_own_shard(const Save& save);
  void give_up(const Save& save, std::exception_ptr error) noexcept;
  void commit(const Save& save);
  std::vector<ShardVote> collect_votes(const Save& save);
  void publish(const Save& save, const std::vector<ShardVote>& votes);
  void reached(SavePhase phase) const;
  void log(const std::string& line) const;

  std::filesystem::path directory_;
  int rank_;
  int world_;
  CheckpointWriterOptions options_;
  CheckpointInfo::Parent parent_;  // of the next save; rank 0 alone needs it

  // Written while no thread runs, read by the thread.
  Staging staging_;
  std::vector<PieceRecord> records_;
  std::vector<Tensor> data_;  // beside records_; in staging_ once staged

  std::thread thread_;
  std::atomic<bool> abandoned_ = false;
  std::mutex mutex_;
  std::exception_ptr error_;  // not yet thrown; guarded by mutex_
};

}  // namespace foretoken
