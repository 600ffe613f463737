#pragma once
// What the parts of a save share: its phases, its options, and the directory through which ranks coordinate.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "io/checkpoint/checkpoint_manifest.h"

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
  std::function<void()> before_publication = [] {};
  /// Receives one console line, from the writer's thread once a save is committed, or from a thread that
  /// waits for one.
  std::function<void(const std::string&)> log = [](const std::string&) {};
  /// Called at every phase, from either thread. Fault injection uses it.
  std::function<void(SavePhase)> on_phase = [](SavePhase) {};
  /// Part of the ids of stage()'s copies: equal on all ranks, different for every launch of the program.
  std::string session;
};

/// step_N.tmp while ranks save: `save_id` names the save, written first by rank 0 and removed last, and each
/// rank's vote (for rank 2 shard_00002.json) says that its shard is complete, or why it failed.
class SaveDirectory {
 public:
  explicit SaveDirectory(std::filesystem::path path) : path_(std::move(path)) {}
  const std::filesystem::path& path() const { return path_; }

  void write_id(const std::string& id) const;
  /// Ends the save for the other ranks.
  void remove_id() const;
  /// Removes the id and then the directory; ignores errors.
  void abandon() const noexcept;
  /// Empty if there is none.
  std::string read_id() const;
  /// Waits for rank 0's id: a network file system may show it late. Throws a DataError after 30 s.
  std::string await_id() const;

  void write_vote(int rank, const ShardVote& vote) const;
  bool has_vote(int rank) const;
  /// Empty while the rank has not voted in the save `id`. Throws a DataError if the disk fails.
  std::optional<ShardVote> vote(int rank, const std::string& id) const;

  /// Bytes that all ranks have written to disk so far, as seen by this rank. Allocated blocks are counted,
  /// because HDF5 sets a file's size before it writes the data.
  std::int64_t bytes_on_disk() const;

 private:
  std::filesystem::path path_;
};

/// One save.
struct Save {
  CheckpointInfo info;
  SaveDirectory directory;
  std::string id;  // equal on every rank, different for every save
  std::chrono::steady_clock::time_point start_time;
  bool staged = false;  // started by CheckpointWriter::stage()
  double pause = 0;     // seconds in CheckpointWriter::save(); 0 if staged
  double waited = 0;    // the part of `pause` in which an earlier save was still being written
};

/// Requests to end saves before they are complete, from any thread.
struct SaveInterrupts {
  std::atomic<bool> closing = false;          // any save
  std::atomic<bool> dropping_staged = false;  // a save of the staged copy

  bool ends(const Save& save) const { return closing || (save.staged && dropping_staged); }
};

/// Detects a save in which no rank writes a byte for `limit`.
class SaveProgress {
 public:
  SaveProgress(const SaveDirectory& directory, std::chrono::milliseconds limit)
      : directory_(directory), limit_(limit) {}

  bool stalled();

 private:
  using Clock = std::chrono::steady_clock;

  const SaveDirectory& directory_;
  std::chrono::milliseconds limit_;
  std::int64_t bytes_ = -1;
  Clock::time_point looked_, moved_ = Clock::now();
};

}  // namespace foretoken
