#pragma once
// Saves checkpoints while training continues. Ranks coordinate through the file system alone: each writes a
// shard and then a vote (shard_00002.json); rank 0 publishes the checkpoint once every rank has voted.
//
// A save has two states. "staged": this rank's tensors are copied, so training may change them. "committed"
// (rank 0): all shards, the view and the manifest are on disk, synced and renamed to their final name. Only
// a committed save survives a crash.
//
// The directory must be on one file system that every rank sees and that has atomic rename (POSIX; NFS and
// Lustre qualify).

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

#include "io/checkpoint/checkpoint_shard.h"
#include "runtime/staging.h"

namespace foretoken {

/// The phases of a save, in order: `staged` to `voted` on every rank, the others on rank 0.
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
  int keep = 3;  // number of newest checkpoints to keep, at least 1
  /// How long ranks wait while no rank writes a byte of the save. A save that makes progress may take any
  /// time.
  std::chrono::milliseconds stall_timeout = std::chrono::minutes(30);
  /// Interval between the lines that name the ranks that finish() or save() waits for.
  std::chrono::milliseconds waiting_report = std::chrono::seconds(10);
  /// The checkpoint that the first save continues from, and the lineage of all saves
  /// (io/checkpoint/lineage.h).
  CheckpointInfo::Parent parent;
  Lineage lineage;
  /// Called on rank 0, from the writer's thread, after everything is written and before it is published. An
  /// exception abandons the save.
  std::function<void()> before_publication;
  /// Receives one console line, from the writer's thread once a save is committed, or from a thread that
  /// waits for one.
  std::function<void(const std::string&)> log;
  /// Called at every phase, from either thread. Fault injection uses it.
  std::function<void(SavePhase)> on_phase;
  /// Part of the ids of stage()'s copies: equal on all ranks, different for every launch of the program.
  std::string session;
};

class CheckpointWriter {
 public:
  /// `directory` is RUN/checkpoints; the first save creates it.
  CheckpointWriter(std::filesystem::path directory, int rank, int world,
                   CheckpointWriterOptions options = {});
  /// Ends the thread. On rank 0 a save that still waits for other ranks is abandoned and never published, so
  /// call finish() first.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Starts saving step info.step. Collective: every rank calls it with the same info and any number of its
  /// own pieces; over all ranks the pieces of each tensor must tile it exactly once. Waits for the previous
  /// save, calls `barrier` twice (it returns when every rank has called it; it may be empty for one rank),
  /// copies the pieces and returns. An existing checkpoint of the step is replaced and stays loadable until
  /// then.
  ///
  /// Before the barrier, throws the failure of the previous save; throws a DefectError for pieces that
  /// contradict themselves, a DataError if the directory cannot be created.
  void save(const CheckpointInfo& info, std::span<const CheckpointPiece> pieces,
            const std::function<void()>& barrier);

  /// Copies the pieces as save() does and keeps the copy for commit_staged(); it replaces an older copy.
  /// Every rank must stage the same steps. Has no effect while busy(). Does not communicate.
  void stage(const CheckpointInfo& info, std::span<const CheckpointPiece> pieces);
  /// Starts to write the staged copy, if there is one and no save() followed it, and returns; callable from
  /// any thread. The copy is published once every rank has written it. A save() before that abandons the
  /// copy.
  void commit_staged();
  /// Waits for a running save and abandons the staged copy, even while it is being written. If ranks do not
  /// agree on the copy's step, all of them must call it.
  void drop_staged();
  /// The step of the staged copy; -1 if there is none. Ranks may publish the copy only if its step is equal
  /// on all of them.
  std::int64_t staged_step() const;
  /// Whether commit_staged() has started to write the copy.
  bool committing_staged() const;
  /// Whether a save is being written.
  bool busy() const { return running_; }

  /// Allocates the memory that a save of these pieces needs, so that the first save stalls training no longer
  /// than later ones. Worthwhile for tensors on a GPU, whose copies are in page-locked memory.
  void reserve(std::span<const CheckpointPiece> pieces);

  /// Throws the failure of a save, once, without waiting. On the rank that failed: a DataError (disk full,
  /// with path and bytes). On rank 0: the failure of any rank, a PeerError for ranks that have not voted in
  /// time, a DefectError naming a tensor with a hole or an overlap. A failed save publishes nothing, complete
  /// checkpoints stay, and the next save may be tried.
  void check();
  /// Waits until rank 0 has committed or abandoned the save, then calls check(). Every `waiting_report` rank
  /// 0 logs the ranks that it waits for.
  void finish();

 private:
  struct Save;
  void take(std::span<const CheckpointPiece> pieces);
  void copy();
  void start(Save save);
  void join();
  void await_end_on_rank_0(const Save& save);
  void run(const Save& save) noexcept;
  bool open_staged(const Save& save);
  void write_own_shard(const Save& save);
  void abandon(const Save& save, std::exception_ptr error) noexcept;
  void commit(const Save& save);
  std::vector<ShardVote> collect_votes(const Save& save);
  void publish(const Save& save, const std::vector<ShardVote>& votes);
  void reached(SavePhase phase) const;
  void log(const std::string& line) const;

  std::filesystem::path directory_;
  int rank_;
  int world_;
  CheckpointWriterOptions options_;
  CheckpointInfo::Parent parent_;  // parent of the next save; only rank 0 uses it

  // Set while the writer's thread does not run, read by that thread.
  Staging staging_;
  std::vector<PieceRecord> records_;
  std::vector<Tensor> data_;  // one tensor per record; views of staging_ after the copy

  mutable std::mutex control_;  // guards the start and join of thread_, and staged_
  std::thread thread_;
  std::atomic<bool> running_ = false;
  std::atomic<bool> closing_ = false;
  std::atomic<bool> dropping_staged_ = false;  // set while drop_staged() stops a save of the copy
  std::unique_ptr<Save> staged_;
  bool committing_staged_ = false;
  std::mutex mutex_;
  std::condition_variable ended_;  // signals that running_ became false
  std::exception_ptr error_;       // not yet thrown; guarded by mutex_
  std::string waiting_for_;        // "rank 3 to write its shard"; guarded by mutex_
  std::filesystem::path written_;  // the directory of the save; guarded by mutex_
};

}  // namespace foretoken
