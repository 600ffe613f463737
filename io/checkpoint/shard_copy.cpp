#include "io/checkpoint/shard_copy.h"

#include <set>
#include <string>
#include <utility>

#include "runtime/error.h"

namespace foretoken {

void ShardCopy::reserve(std::span<const CheckpointPiece> pieces) {
  std::vector<Tensor> tensors;
  for (const CheckpointPiece& piece : pieces) tensors.push_back(piece.data);
  staging_.reserve(tensors);
}

void ShardCopy::set(std::span<const CheckpointPiece> pieces) {
  records_.clear();
  data_.clear();
  std::set<std::string> datasets;
  for (const CheckpointPiece& piece : pieces) {
    PieceRecord record = record_of(piece, shard_name(rank_));
    if (piece.range.empty()) continue;
    if (!datasets.insert(record.dataset).second)
      throw DefectError("checkpoint: {}: rank {} saves two pieces that start at element {}",
                        describe(piece.kind, piece.tensor), rank_, piece.range.begin);
    records_.push_back(std::move(record));
    data_.push_back(piece.data);
  }
}

void ShardCopy::copy() {
  staging_.take(data_);
}

ShardVote ShardCopy::write(const std::filesystem::path& directory, const std::string& id,
                           const std::function<void()>& halfway) {
  ShardVote vote{id, {}, {}, {}};
  if (!records_.empty())
    vote.files.push_back(write_shard(directory / shard_name(rank_), records_, data_, halfway));
  vote.pieces = records_;
  return vote;
}

}  // namespace foretoken
