#pragma once
// Losses of the model on a dataset, and acceptance of its heads' drafts. Every row counts once, in text
// order, whatever the layout.

#include "io/datasets/batch.h"
#include "io/report/metrics.h"
#include "launch/session/session.h"
#include "parallel/pipeline/executor.h"

namespace foretoken {

/// Converts a loader's microbatch into the model's input.
inline MicrobatchInput input_of(const Batch& batch) {
  return {.tokens = batch.tokens, .document_start = batch.document_start};
}

RowShape row_shape(const Config& config);
BatchLayout batch_layout(const Config& config, const Groups& groups);

class Evaluation {
 public:
  /// Evaluates the first `rows` rows of the dataset, or all rows if `rows` is 0. Dataset and session must
  /// outlive the Evaluation.
  Evaluation(Session& session, const TokenDataset& dataset, std::int64_t rows);

  /// Collective over the world; every rank receives the result.
  EvaluationMetrics run(std::int64_t step);

 private:
  Session& session_;
  const TokenDataset& dataset_;
  std::vector<std::int32_t> bytes_of_tokens_;  // empty if unknown
  std::int64_t rows_;
  Executor executor_;
};

}  // namespace foretoken
