#pragma once
// shard_00000.h5 ...: what one rank saves, in serial HDF5, contiguous. A tensor that is saved whole lies at
// /{kind}/{tensor} in its natural shape; a part of one at /{kind}/{tensor}@{offset}, one-dim, with the
// attributes global_shape (i64 array) and offset (i64).
//
// Loading never parses HDF5: the manifest knows the address and digest of every piece, so that damaged HDF5
// structures can neither crash nor mislead it.

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "io/checkpoint_manifest.h"

namespace foretoken {

/// Elements `range` of one tensor of `shape`, as a rank hands them over. An empty range is allowed and
/// ignored.
struct CheckpointPiece {
  std::string kind;  // "model", "exp_avg", "exp_avg_sq", ...
  std::string tensor;
  Shape shape;
  Range range;
  Tensor data;  // [range.size()] elements in any shape, on the CPU
};

/// "shard_00002.h5", "shard_00002.json"
std::string shard_name(int rank);
std::string vote_name(int rank);

/// The record of a piece that goes to `file`, all but address and digest. A DefectError where the piece
/// contradicts itself or its names cannot be paths.
PieceRecord record_of(const CheckpointPiece& piece, const std::string& file);

/// Writes data[i] as records[i] and syncs; fills in addresses and digests. `halfway` is called in the middle.
/// A DataError where the disk is full or fails.
ShardFile write_shard(const std::filesystem::path& file, std::span<PieceRecord> records,
                      std::span<const Tensor> data, const std::function<void()>& halfway);

/// Digest of a file's bytes outside of the given pieces (those of this file alone are looked at).
std::string digest_outside(const std::filesystem::path& file, std::span<const PieceRecord> pieces);

}  // namespace foretoken
