#pragma once
// Loads checkpoints, whatever layout wrote them and whatever layout asks: any range of any tensor is gathered
// from the pieces that cover it, and every piece is checked against its digest as it is read.

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "io/checkpoint_manifest.h"

namespace foretoken {

class Checkpoint {
 public:
  /// A complete checkpoint's directory. A DataError where it is missing, unfinished (.tmp), without a
  /// manifest, where the manifest is damaged or of an unknown format, or a shard is missing or of another
  /// size. Contents are checked by read() and verify(). To find a run's checkpoints, and older ones to fall
  /// back to, see checkpoints_at() in io/checkpoint_directory.h.
  static Checkpoint open(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const { return directory_; }
  const CheckpointInfo& info() const { return manifest_.info; }
  const CheckpointManifest& manifest() const { return manifest_; }

  bool has(const std::string& kind, const std::string& tensor) const;
  /// The pieces that tile a tensor, in order of their ranges. A DataError naming a tensor that is not there.
  const std::vector<PieceRecord>& pieces(const std::string& kind, const std::string& tensor) const;

  /// Elements `range` of a tensor into `out` (any shape of range.size() elements, on the CPU). Each piece
  /// that it touches is read whole, once. What is stored as f32 may be read as bf16, to nearest, and the
  /// reverse. A DataError where the tensor is missing, has another dtype or too few elements, or a digest
  /// differs; `out` then holds nothing of use.
  void read(const std::string& kind, const std::string& tensor, const Range& range, const Tensor& out) const;

  /// Checks every digest and returns what is wrong, one line each; empty where all hold. Of `parts` ranks
  /// that share the work each takes the files with index ≡ part.
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
