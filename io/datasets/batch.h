#pragma once
// Batches of a training step or an evaluation. A background thread reads the next step ahead.

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "io/datasets/sampler.h"
#include "io/datasets/token_dataset.h"
#include "runtime/tensor.h"

namespace foretoken {

/// One microbatch. The target of position i at depth k (0 = the main model) is tokens[i + k + 1]. It is valid
/// if document_start[i + k + 1] == document_start[i] >= 0, that is, if both are in one document.
struct Batch {
  Tensor tokens;          // [B, T + 1 + D] i32
  Tensor document_start;  // [B, T + 1 + D] i32: the row position where this token's document begins, 0 if
                          // before the row, -1 in a row past the end of an evaluation
  std::int64_t valid_rows = 0;  // rows [0, valid_rows) are text, the others hold token 0
};

/// Assigns a step's rows to ranks. The step has G = B · M · dp rows; microbatch m of data-parallel rank d
/// takes rows [(m · dp + d) · B, +B). A step therefore has the same rows in the same microbatch order for
/// every dp.
struct BatchLayout {
  std::int64_t rows = 1;          // B, per microbatch
  std::int64_t microbatches = 1;  // M, per step and rank
  std::int64_t dp = 1;
  std::int64_t dp_rank = 0;
  std::int64_t global_rows() const { return rows * microbatches * dp; }  // G
  friend bool operator==(const BatchLayout&, const BatchLayout&) = default;
};

/// The order of training: shuffled by (seed, epoch), endless, starting at global sample `consumed_samples`.
/// This number is the only state of the data that a run has to store.
struct TrainingOrder {
  std::uint64_t seed = 0;
  std::int64_t consumed_samples = 0;
};

class BatchLoader {
 public:
  /// With an order, for training: each step takes the next G global samples, without end. Without an order,
  /// for evaluation: every row once, in text order. All ranks see the same number of steps; rows missing from
  /// the last step are marked as Batch describes. The dataset must outlive the loader. Throws a UsageError
  /// for an invalid layout or row shape, a DataError if the text is shorter than a row.
  BatchLoader(const TokenDataset& dataset, const RowShape& row, const BatchLayout& layout,
              std::optional<TrainingOrder> order = std::nullopt);
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  /// The M microbatches of the next step, valid until the next call; empty at the end of an evaluation. A
  /// DataError from reading ahead is thrown here, at the step that it concerns and at every later call.
  std::span<const Batch> next();

  const Sampler& sampler() const { return sampler_; }
  /// Global samples up to the end of the step that next() last returned.
  std::int64_t consumed_samples() const { return consumed_; }

 private:
  struct Step {
    std::vector<std::int32_t> tokens;
    std::vector<std::int32_t> document_start;
    std::vector<Batch> microbatches;
    std::exception_ptr failure;
    bool end = false;
  };

  Step make_step() const;
  void read_ahead();
  void fill(Step& step, std::int64_t first_sample) const;
  void fill_row(std::int64_t begin, std::span<std::int32_t> tokens,
                std::span<std::int32_t> document_start) const;

  const TokenDataset& dataset_;
  Sampler sampler_;
  BatchLayout layout_;
  bool endless_;
  std::int64_t consumed_;

  Step current_;  // used by the caller of next()
  Step ahead_;    // used by the thread until ready_ is set
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ready_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace foretoken
