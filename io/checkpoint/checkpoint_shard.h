#pragma once
// shard_00000.h5 and so on: what one rank saves, as serial, contiguous HDF5. A whole tensor is stored at
// /{kind}/{tensor} in its natural shape. A part of a tensor is stored at /{kind}/{tensor}@{offset}, one-dim,
// with the attributes global_shape (i64 array) and offset (i64).
//
// Loading never parses HDF5, because the manifest has the address and digest of every piece. Damaged HDF5
// structures can therefore neither crash nor mislead it.

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_manifest.h"

namespace foretoken {

/// Elements `range` of one tensor of `shape`, as a rank passes them to the writer. Empty ranges are ignored.
struct CheckpointPiece {
  std::string kind;  // "model", "exp_avg", "exp_avg_sq", ...
  std::string tensor;
  Shape shape;
  Range range;
  Tensor data;  // [range.size()] elements in any shape, on the CPU
};

/// Examples: "shard_00002.h5", "shard_00002.json".
std::string shard_name(int rank);
std::string vote_name(int rank);

/// The record of a piece in `file`, without address and digest. Throws a DefectError if the piece contradicts
/// itself or its names cannot be used in a path.
PieceRecord record_of(const CheckpointPiece& piece, const std::string& file);

/// Writes data[i] as records[i] and syncs; fills in addresses and digests. `halfway` is called in the middle.
/// Throws a DataError if the disk is full or fails.
ShardFile write_shard(const std::filesystem::path& file, std::span<PieceRecord> records,
                      std::span<const Tensor> data, const std::function<void()>& halfway);

/// Digest of the file's bytes outside the given pieces; pieces of other files are ignored.
std::string digest_outside(const std::filesystem::path& file, std::span<const PieceRecord> pieces);

}  // namespace foretoken
