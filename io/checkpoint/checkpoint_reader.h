#pragma once
// Loads checkpoints. The layout that wrote a checkpoint does not matter: any range of any tensor is gathered
// from the pieces that cover it, and every piece is checked against its digest when it is read.

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "io/checkpoint/checkpoint_manifest.h"

namespace foretoken {

class Checkpoint {
 public:
  /// Opens the directory of a complete checkpoint. Throws a DataError if it is missing or unfinished (.tmp),
  /// if the manifest is missing, damaged or of an unknown format, or if a shard is missing or has another
  /// size. Contents are checked by read() and verify(). checkpoints_at() in io/checkpoint/lineage.h lists a
  /// run's checkpoints, including older ones to fall back to.
  static Checkpoint open(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const { return directory_; }
  const CheckpointInfo& info() const { return manifest_.info; }
  const CheckpointManifest& manifest() const { return manifest_; }

  bool has(const std::string& kind, const std::string& tensor) const;
  /// The pieces that tile a tensor, in order of their ranges. Throws a DataError naming a tensor that is
  /// missing.
  const std::vector<PieceRecord>& pieces(const std::string& kind, const std::string& tensor) const;

  /// Reads elements `range` of a tensor into `out` (any shape of range.size() elements, on the CPU). Each
  /// piece that overlaps the range is read whole, once. f32 can be read as bf16, rounded to nearest, and bf16
  /// as f32. Throws a DataError if the tensor is missing, has another dtype or too few elements, or a digest
  /// differs; the contents of `out` are then undefined.
  void read(const std::string& kind, const std::string& tensor, const Range& range, const Tensor& out) const;

  /// Checks all digests and returns one message per damaged part; empty if there is none. If `parts` ranks
  /// share the work, each passes its number as `part` and checks every `parts`-th file.
  std::vector<std::string> verify(int part = 0, int parts = 1) const;

 private:
  Checkpoint(std::filesystem::path directory, CheckpointManifest manifest);
  template <class Take>
  void read_piece(const PieceRecord& piece, const Take& take_block) const;
  std::string label(const std::string& file) const;

  std::filesystem::path directory_;
  CheckpointManifest manifest_;
  std::map<std::pair<std::string, std::string>, std::vector<PieceRecord>> tensors_;
};

}  // namespace foretoken
