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
#include <condition_variable>
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
  /// How long ranks wait for a save in which no byte is written by any of them. A save may take any time as
  /// long as it moves.
  std::chrono::milliseconds stall_timeout = std::chrono::minutes(30);
  /// Between lines that say for whom finish() or save() waits.
  std::chrono::milliseconds waiting_report = std::chrono::seconds(10);
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
  /// Part of the id of what stage() keeps: the same on all ranks, another for every start of the program.
  std::string session;
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
  /// previous save, passes `barrier` twice (it returns when every rank has called it; may be empty for one
  /// rank), copies the pieces and returns. A step that exists already is replaced, and stays loadable until
  /// it is.
  ///
  /// Throws what the previous save failed with, before the barrier; a DefectError for pieces that contradict
  /// themselves; a DataError where the directory cannot be made.
  void save(const CheckpointInfo& info, std::span<const CheckpointPiece> pieces,
            const std::function<void()>& barrier);

  /// Copies the pieces as save() does and keeps the copy, in place of an older one, for commit_staged().
  /// Every rank stages the same steps. Not while busy(). Needs no other rank.
  void stage(const CheckpointInfo& info, std::span<const CheckpointPiece> pieces);
  /// Starts to write the copy, where there is one that no save() followed, and returns; from any thread. It
  /// is published once every rank has done so; where the next save() comes first it is given up.
  void commit_staged();
  /// The step of the copy that commit_staged() would write, or writes; -1: none. Ranks publish it only where
  /// it is the same on all of them.
  std::int64_t staged_step() const;
  /// Whether commit_staged() has started to write that copy.
  bool committing_staged() const;
  /// Whether a save is being written.
  bool busy() const { return running_; }

  /// Takes the memory that a save of these pieces needs beforehand, so that the first one stalls no longer
  /// than the others: worth it for tensors on a GPU, whose copies go to page-locked memory.
  void reserve(std::span<const CheckpointPiece> pieces);

  /// Throws what a save has failed with, once, without waiting: on the rank that failed a DataError (disk
  /// full, with path and bytes); on rank 0 that of any rank, a PeerError for ranks that have not voted in
  /// time, a DefectError naming a tensor that has a hole or an overlap. Nothing is published then, what was
  /// complete stays, and the next save may be tried.
  void check();
  /// Waits until the save is committed or given up on rank 0, then check()s. On rank 0 it says every
  /// `waiting_report` for which ranks it waits.
  void finish();

 private:
  struct Save;
  void take(std::span<const CheckpointPiece> pieces);
  std::int64_t copy();
  void start(Save save);
  void join();
  void await_conclusion(const Save& save);
  void run(const Save& save) noexcept;
  bool open_staged(const Save& save);
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

  mutable std::mutex control_;  // of starting and joining the thread, and of staged_
  std::thread thread_;
  std::atomic<bool> running_ = false;
  std::atomic<bool> abandoned_ = false;
  std::atomic<bool> given_up_ = false;  // what commit_staged() writes
  std::unique_ptr<Save> staged_;
  bool committing_staged_ = false;
  std::mutex mutex_;
  std::condition_variable ended_;  // running_ became false
  std::exception_ptr error_;       // not yet thrown; guarded by mutex_
  std::string waiting_for_;        // "rank 3 to write its shard"; guarded by mutex_
  std::filesystem::path written_;  // the directory of the save; guarded by mutex_
};

}  // namespace foretoken
