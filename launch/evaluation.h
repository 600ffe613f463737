#pragma once
// The losses of the model on a dataset, and the acceptance of its heads' drafts: every row once, in the order
// of the text, whatever the layout.

#include "io/batch.h"
#include "io/metrics.h"
#include "launch/session.h"
#include "parallel/executor.h"

namespace foretoken {

/// A loader's microbatch as the model takes it.
inline MicrobatchInput input_of(const Batch& batch) {
  return {.tokens = batch.tokens, .document_start = batch.document_start};
}

RowShape row_shape(const Config& config);
BatchLayout batch_layout(const Config& config, const Groups& groups);

class Evaluation {
 public:
  /// The first `rows` rows of the dataset, or all of them where rows is 0. Dataset and session must outlive
  /// it.
  Evaluation(Session& session, const TokenDataset& dataset, std::int64_t rows);

  /// Collective over the world; every rank gets the result.
  EvaluationMetrics run(std::int64_t step);

 private:
  Session& session_;
  const TokenDataset& dataset_;
  std::vector<std::int32_t> bytes_of_tokens_;  // empty where they are not known
  std::int64_t rows_;
  Executor executor_;
};

}  // namespace foretoken
