#pragma once
// manifest.json: what a checkpoint holds. Written last, so a checkpoint with a manifest has everything else.
//
//   { "format": 1,
//     "digest": XXH3-128 of the compact dump of "checkpoint",
//     "checkpoint": {
//       "id", "parent": {"id", "step"} where it goes on from another, "lineage": {"branch", "ancestors"},
//       "step", "tokens", "samples", "grid": {"pp", "dp", "virtual_stages"}, "seed", "conventions": {...},
//       "data": {"training": {"path", "identity"}, "validation" likewise}, absent in older checkpoints,
//       "skipped", "skipped_in_a_row" where steps made no update, "suspect" of checkpoints that a later check
//       put in doubt,
//       "balance": [...] where losses are balanced, "config", "tokenizer", "created",
//       "files":  [ {"name", "bytes", "digest"} ],
//       "pieces": [ {"kind", "tensor", "shape", "dtype", "offset", "count", "file", "dataset", "address",
//                    "digest"} ] } }
//
// A piece is the flat, row-major range [offset, offset + count) of one tensor of one kind; it lies at
// `dataset` of `file`, which is `address` bytes from the file's beginning, little-endian. The pieces of a
// (kind, tensor) tile it exactly once. A file's digest is that of all its bytes outside of pieces, so that
// the digests together cover every byte.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "io/lineage.h"
#include "io/token_dataset.h"
#include "parallel/grid.h"
#include "parallel/shard.h"
#include "runtime/tensor.h"

namespace foretoken {

constexpr const char* manifest_name = "manifest.json";
constexpr const char* view_name = "model.h5";

/// What a run needs beside tensors to go on exactly where it stopped, and to know what it stopped as.
struct CheckpointInfo {
  /// The checkpoint that this one's run goes on from: the one saved or resumed before it.
  struct Parent {
    std::string id;          // empty: its manifest is older than ids
    std::int64_t step = -1;  // -1: none
  };

  std::int64_t step = 0;
  std::int64_t tokens = 0;   // seen so far
  std::int64_t samples = 0;  // consumed so far: the position in the order of data
  Grid grid;                 // the layout that wrote it
  std::uint64_t seed = 0;
  std::int64_t skipped = 0;                        // steps that made no update
  std::int64_t skipped_in_a_row = 0;               // the last ones
  std::vector<double> balance;                     // of dynamically balanced losses: each depth's; else empty
  std::map<std::string, std::string> conventions;  // the MTP switches
  std::string config;                              // resolved, as text
  std::string tokenizer;                           // identity
  std::optional<DatasetRecord> training_data;      // nothing in checkpoints of earlier versions
  std::optional<DatasetRecord> validation_data;    // nothing also where the run had none
  std::string suspect;                             // why it is not to be trusted; empty: no reason is known
  std::string created;                             // UTC, "2025-01-31T12:00:00Z"; set when published
  // Set when published, empty or default in older manifests:
  std::string id;  // random
  Parent parent;
  Lineage lineage;
};

struct PieceRecord {
  std::string kind;    // "model", "exp_avg", "exp_avg_sq", ...
  std::string tensor;  // Hugging Face name
  Shape shape;         // of the whole tensor
  DType dtype = DType::f32;
  Range range;               // flat elements of the whole tensor
  std::string file;          // inside the checkpoint's directory
  std::string dataset;       // path inside the file
  std::int64_t address = 0;  // of its first byte in the file
  std::string digest;        // of its bytes

  std::int64_t bytes() const { return range.size() * static_cast<std::int64_t>(size_of(dtype)); }
};

struct ShardFile {
  std::string name;
  std::int64_t bytes = 0;
  std::string digest;  // of the bytes outside of pieces
};

struct CheckpointManifest {
  CheckpointInfo info;
  std::vector<ShardFile> files;
  std::vector<PieceRecord> pieces;
};

/// What a rank tells rank 0 once its shard is safe, or could not be made so (`error` says why).
struct ShardVote {
  std::string save_id;
  std::string error;
  std::vector<ShardFile> files;  // none where the rank had nothing to save
  std::vector<PieceRecord> pieces;
};

std::string manifest_text(const CheckpointManifest& manifest);
/// A DataError naming the file for anything but a whole, undamaged manifest of a known format version.
CheckpointManifest read_manifest(const std::filesystem::path& file);

std::string branch_text(const BranchRecord& record);
/// A DataError naming the file for anything but a whole record.
BranchRecord read_branch(const std::filesystem::path& file);

/// Says in a published checkpoint's manifest why it is not to be trusted. A DataError where it cannot be read
/// or replaced.
void mark_suspect(const std::filesystem::path& checkpoint, const std::string& reason);

std::string vote_text(const ShardVote& vote);
ShardVote read_vote(const std::filesystem::path& file);

/// Empty where the pieces of every tensor agree on shape and dtype and tile it exactly once; otherwise what
/// is wrong first, naming the tensor.
std::string tiling_fault(std::vector<PieceRecord> pieces);

/// "1.50 GB": for messages.
std::string bytes_text(std::int64_t bytes);
/// "model.norm.weight", "exp_avg of model.norm.weight": for messages.
std::string describe(const std::string& kind, const std::string& tensor);

}  // namespace foretoken
