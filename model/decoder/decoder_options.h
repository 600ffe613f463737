#pragma once
// Options of a decoder (model/decoder/decoder.h).

#include <algorithm>

#include "model/cache/slot_cache.h"
#include "model/config.h"
#include "model/decoder/trunk_pipeline.h"
#include "runtime/operators/products/linear.h"

namespace foretoken {

struct DecoderOptions {
  ModelConfig model;
  MtpConfig mtp;             // depths = 0 leaves the prediction heads out
  DType dtype = DType::f32;  // dtype of activations, caches, and the weights that layers compute with
  std::int64_t sequences = 1;
  std::int64_t positions = 0;         // maximum length of a sequence
  std::int64_t branches = 0;          // slots per sequence in addition to its positions, for rows of trees
  std::int64_t rows = 512;            // maximum rows of a pass
  std::int64_t logits = 1;            // maximum rows of logits per call
  TrunkPipeline* pipeline = nullptr;  // this rank's stage; other options must be equal on all ranks

  CacheShape cache() const { return {.sequences = sequences, .positions = positions, .branches = branches}; }
  /// Maximum rows of logits per pass: few enough that a row's bits do not depend on their number.
  std::int64_t logits_per_pass() const { return std::min(logits, most_few_rows); }
  bool is_first_stage() const { return !pipeline || pipeline->is_first(); }
  bool is_last_stage() const { return !pipeline || pipeline->is_last(); }
};

}  // namespace foretoken
