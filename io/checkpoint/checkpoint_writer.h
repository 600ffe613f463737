#pragma once
// Saves checkpoints while training continues. Ranks coordinate through the file system alone: each writes a
// shard and then a vote (for rank 2 shard_00002.json); rank 0 publishes the checkpoint once every rank has
// voted.
//
// A save has two states. "staged": this rank's tensors are copied, so training may change them. "committed"
// (rank 0): all shards, the view and the manifest are on disk, synced and renamed to their final name. Only
// a committed save survives a crash.
//
// The directory must be on one file system that every rank sees and that has atomic rename (POSIX; NFS and
// Lustre qualify).

#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <span>

#include "io/checkpoint/publication.h"
#include "io/checkpoint/save.h"
#include "io/checkpoint/save_thread.h"
#include "io/checkpoint/shard_copy.h"

namespace foretoken {

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
  bool busy() const { return thread_.busy(); }

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
  void start(const Save& save);
  void join();
  void run(const Save& save) noexcept;
  bool open_staged(const Save& save);
  void write_own_shard(const Save& save);
  void await_end_on_rank_0(const Save& save) const;
  void abandon(const Save& save, std::exception_ptr error) noexcept;

  std::filesystem::path directory_;
  int rank_;
  CheckpointWriterOptions options_;
  ShardCopy copy_;           // changes only while the thread does not run
  Publication publication_;  // rank 0 uses it, on the thread
  SaveInterrupts interrupts_;
  mutable std::mutex control_;  // guards the start and join of thread_, and the two members after this
  std::optional<Save> staged_;
  bool committing_staged_ = false;
  SaveThread thread_;  // destroyed first: it uses the others
};

}  // namespace foretoken
