#pragma once
// model.h5: whole tensors for any HDF5 reader, at /{kind}/{tensor} in their natural shape, without a second
// copy of the data. It holds virtual datasets over the shards. Shards are named relative to model.h5, so the
// directory can be moved. HDF5 shows the fill value, NaN, for a missing shard. The view is for people and
// tools; Foretoken itself loads from the shards.

#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "io/checkpoint/checkpoint_manifest.h"

namespace foretoken {

/// A box of a tensor that is contiguous in memory.
struct Hyperslab {
  std::array<std::int64_t, Shape::max_rank> start{};
  std::array<std::int64_t, Shape::max_rank> count{};
  std::int64_t elements = 0;
};

/// Splits a flat range into boxes in memory order. In two dims there are at most three: the end of a row,
/// whole rows, the start of a row. Each further dim adds at most two.
std::vector<Hyperslab> hyperslabs(const Shape& shape, const Range& range);

/// Writes and syncs the view of `pieces`, which must tile their tensors.
void write_view(const std::filesystem::path& file, std::span<const PieceRecord> pieces);

}  // namespace foretoken
