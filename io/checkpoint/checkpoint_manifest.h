#pragma once
// manifest.json: the contents of a checkpoint. It is written last, so a checkpoint with a manifest is
// complete.
//
//   { "format": 2,
//     "digest": XXH3-128 of the compact dump of "checkpoint",
//     "checkpoint": {
//       "id", "parent": {"id", "step"} if it continues from another, "lineage": {"branch", "ancestors"},
//       "step", "tokens", "samples", "grid": {"pp", "dp", "virtual_stages"}, "seed", "conventions": {...},
//       "data": {"training": {"path", "identity"}, "validation" likewise}, absent in older checkpoints,
//       "skipped", "skipped_in_a_row" if steps made no update, "suspect" if a later check found a reason not
//       to trust the checkpoint,
//       "balance": [...] if losses are balanced, "config", "created",
//       "tokenizer": {"name", "digest", "vocab_size", "end_of_document"}; in format 1 the text of its
//       to_string(),
//       "files":  [ {"name", "bytes", "digest"} ],
//       "pieces": [ {"kind", "tensor", "shape", "dtype", "offset", "count", "file", "dataset", "address",
//                    "digest"} ] } }
//
// A piece is the flat, row-major range [offset, offset + count) of one tensor of one kind. It is stored,
// little-endian, as `dataset` of `file`, `address` bytes after the file's start. The pieces of a (kind,
// tensor) tile it exactly once. A file's digest covers all its bytes outside pieces, so the digests together
// cover every byte.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint/lineage.h"
#include "io/datasets/token_dataset.h"
#include "parallel/grid.h"
#include "parallel/optimizer/shard.h"
#include "runtime/tensor.h"

namespace foretoken {

constexpr const char* manifest_name = "manifest.json";
constexpr const char* view_name = "model.h5";

/// The state besides tensors that a run needs to continue exactly where it stopped, and a description of the
/// run.
struct CheckpointInfo {
  /// The checkpoint that this one continues from: the one that the run saved or resumed before.
  struct Parent {
    std::string id;          // empty: the parent's manifest, of an earlier version, has none
    std::int64_t step = -1;  // -1: this checkpoint has no parent
  };

  std::int64_t step = 0;
  std::int64_t tokens = 0;   // seen by the model so far
  std::int64_t samples = 0;  // read so far: the run's position in the order of the data
  Grid grid;                 // the layout of the run that wrote the checkpoint
  std::uint64_t seed = 0;
  std::int64_t skipped = 0;                        // steps that made no update
  std::int64_t skipped_in_a_row = 0;               // consecutive skipped steps up to this one
  std::vector<double> balance;                     // factor per depth of dynamic balance; else empty
  std::map<std::string, std::string> conventions;  // settings of the MTP conventions
  std::string config;                              // resolved, as text
  TokenizerIdentity tokenizer;                     // the tokenizer of the training data
  std::optional<DatasetRecord> training_data;      // empty in checkpoints of earlier versions
  std::optional<DatasetRecord> validation_data;    // also empty if the run has no validation data
  std::string suspect;  // why the checkpoint must not be trusted; empty: no reason is known
  std::string created;  // UTC, "2025-01-31T12:00:00Z"; set when published
  // Set when published, empty or default in older manifests:
  std::string id;  // random
  Parent parent;
  Lineage lineage;
};

struct PieceRecord {
  std::string kind;    // "model", "exp_avg", "exp_avg_sq", ...
  std::string tensor;  // Hugging Face name
  Shape shape;         // shape of the whole tensor
  DType dtype = DType::f32;
  Range range;               // the piece's elements, numbered flat in the tensor
  std::string file;          // inside the checkpoint's directory
  std::string dataset;       // path inside the file
  std::int64_t address = 0;  // file offset of the first byte
  std::string digest;        // digest of the piece's bytes

  std::int64_t bytes() const { return range.size() * static_cast<std::int64_t>(size_of(dtype)); }
};

struct ShardFile {
  std::string name;
  std::int64_t bytes = 0;
  std::string digest;  // digest of the bytes outside pieces
};

struct CheckpointManifest {
  CheckpointInfo info;
  std::vector<ShardFile> files;
  std::vector<PieceRecord> pieces;
};

/// A rank's message to rank 0 once its shard is on disk, or has failed (`error` is the reason).
struct ShardVote {
  std::string save_id;
  std::string error;
  std::vector<ShardFile> files;  // empty if the rank had nothing to save
  std::vector<PieceRecord> pieces;
};

std::string manifest_text(const CheckpointManifest& manifest);
/// Throws a DataError naming the file unless it is a whole, undamaged manifest of a known format version.
CheckpointManifest read_manifest(const std::filesystem::path& file);

std::string branch_text(const BranchRecord& record);
/// Throws a DataError naming the file unless it is a whole record.
BranchRecord read_branch(const std::filesystem::path& file);

/// Records in a published checkpoint's manifest why the checkpoint must not be trusted. Throws a DataError if
/// the manifest cannot be read or replaced.
void mark_suspect(const std::filesystem::path& checkpoint, const std::string& reason);

std::string vote_text(const ShardVote& vote);
ShardVote read_vote(const std::filesystem::path& file);

/// Empty if the pieces of every tensor agree on shape and dtype and tile it exactly once; otherwise a message
/// about the first tensor that does not.
std::string tiling_error(std::vector<PieceRecord> pieces);

/// Example: "1.50 GB". For messages.
std::string bytes_text(std::int64_t bytes);
/// Examples: "model.norm.weight", "exp_avg of model.norm.weight". For messages.
std::string describe(const std::string& kind, const std::string& tensor);

}  // namespace foretoken
