#pragma once
// How rank 0 completes a save.

#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "io/checkpoint/save.h"

namespace foretoken {

/// Rank 0's part of a save: it collects the votes, writes view and manifest, publishes the checkpoint and
/// retires old ones. The published checkpoint is the parent of the next one.
class Publication {
 public:
  /// The options must outlive the publication.
  Publication(std::filesystem::path directory, int world, const CheckpointWriterOptions& options)
      : directory_(std::move(directory)), world_(world), options_(options), parent_(options.parent) {}

  /// What the save waits for, for messages.
  using WaitsFor = std::function<void(std::string what)>;
  /// Returns when the checkpoint is published, or when an interrupt ends the save. Throws a DataError for the
  /// failure of a rank, a PeerError for ranks that have not voted in time, a DefectError naming a tensor with
  /// a hole or an overlap.
  void commit(const Save& save, const SaveInterrupts& interrupts, const WaitsFor& waits_for);

 private:
  std::vector<ShardVote> collect_votes(const Save& save, const SaveInterrupts& interrupts,
                                       const WaitsFor& waits_for) const;
  void publish(const Save& save, const std::vector<ShardVote>& votes, const WaitsFor& waits_for);

  std::filesystem::path directory_;  // of all checkpoints
  int world_;
  const CheckpointWriterOptions& options_;
  CheckpointInfo::Parent parent_;
};

}  // namespace foretoken
