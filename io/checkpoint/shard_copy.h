#pragma once
// The copy of a rank's tensors that a save writes while training changes the originals.

#include <filesystem>
#include <functional>
#include <span>
#include <vector>

#include "io/checkpoint/checkpoint_shard.h"
#include "runtime/staging.h"

namespace foretoken {

/// This rank's pieces of one save: their records, and their data, first in place and then copied.
class ShardCopy {
 public:
  explicit ShardCopy(int rank) : rank_(rank) {}

  /// Allocates the memory that copies of these pieces need.
  void reserve(std::span<const CheckpointPiece> pieces);
  /// Replaces the pieces. Throws a DefectError for pieces that contradict themselves or each other.
  void set(std::span<const CheckpointPiece> pieces);
  /// Copies the data of the pieces, which may change after this.
  void copy();
  /// Writes the rank's shard into the directory of a save, if there are pieces, and syncs it. `halfway` is
  /// called in the middle. Returns the vote on the save `id`. Throws a DataError if the disk is full or
  /// fails.
  ShardVote write(const std::filesystem::path& directory, const std::string& id,
                  const std::function<void()>& halfway);

 private:
  int rank_;
  Staging staging_;
  std::vector<PieceRecord> records_;
  std::vector<Tensor> data_;  // one tensor per record; views of staging_ after copy()
};

}  // namespace foretoken
