#include "launch/session/evaluation.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "io/tokenizers/tokenizer.h"
#include "launch/session/diagnosis.h"

namespace foretoken {

namespace {

/// Marks the rows of a microbatch at or after `limit` as padding.
void drop_rows_from(const Batch& batch, std::int64_t first_row, std::int64_t limit) {
  const std::int64_t width = batch.document_start.shape[1];
  for (std::int64_t row = 0; row < batch.document_start.shape[0]; ++row)
    if (first_row + row >= limit)
      std::fill_n(batch.document_start.as<std::int32_t>() + row * width, width, -1);
}

/// Bytes of the text of the main loss's targets.
std::int64_t target_bytes(const Batch& batch, std::int64_t positions,
                          const std::vector<std::int32_t>& bytes_of_tokens) {
  if (bytes_of_tokens.empty()) return 0;
  std::int64_t bytes = 0;
  const std::int64_t width = batch.tokens.shape[1];
  for (std::int64_t row = 0; row < batch.tokens.shape[0]; ++row) {
    const auto* start = batch.document_start.as<std::int32_t>() + row * width;
    const auto* token = batch.tokens.as<std::int32_t>() + row * width;
    for (std::int64_t i = 0; i < positions; ++i)
      if (start[i + 1] == start[i] && start[i] >= 0)
        bytes += bytes_of_tokens[static_cast<std::size_t>(token[i + 1])];
  }
  return bytes;
}

}  // namespace

RowShape row_shape(const Config& config) {
  return {.positions = config.data.sequence_length, .look_ahead = config.mtp.depths};
}

BatchLayout batch_layout(const Config& config, const Groups& groups) {
  return {.rows = config.train.microbatch,
          .microbatches = microbatches_of(config, groups.grid),
          .dp = groups.grid.dp,
          .dp_rank = groups.dp_rank};
}

Evaluation::Evaluation(Session& session, const TokenDataset& dataset, std::int64_t rows)
    : session_(session),
      dataset_(dataset),
      bytes_of_tokens_(bytes_of_tokens(dataset.tokenizer())),
      rows_(rows),
      executor_(session.evaluation().program, session.evaluation().footprint, session.model(),
                *session.groups().pipeline, session.stream()) {
  const std::int64_t available =
      Sampler(dataset.path().string(), dataset.tokens(), row_shape(session.config()), 0).samples();
  rows_ = rows == 0 ? available : std::min(rows, available);
}

EvaluationMetrics Evaluation::run(std::int64_t step) {
  const auto start = std::chrono::steady_clock::now();
  const BatchLayout layout = batch_layout(session_.config(), session_.groups());
  const std::size_t depths = session_.objective().weights().size();
  BatchLoader loader(dataset_, row_shape(session_.config()), layout);

  const std::int64_t positions = session_.config().data.sequence_length;
  std::vector<std::int64_t> counts(depths);
  std::int64_t bytes = 0;
  std::vector<double> sums(static_cast<std::size_t>(session_.model().sums().all.elements()));
  std::vector<MicrobatchInput> inputs;
  for (std::int64_t first = 0; first < rows_; first += layout.global_rows()) {
    inputs.clear();
    const std::span<const Batch> batches = loader.next();
    for (std::size_t m = 0; m < batches.size(); ++m) {
      const std::int64_t row = (static_cast<std::int64_t>(m) * layout.dp + layout.dp_rank) * layout.rows;
      drop_rows_from(batches[m], first + row, rows_);
      inputs.push_back(input_of(batches[m]));
      if (!session_.model().has_main_head()) continue;
      add_target_counts(inputs.back(), positions, counts);
      bytes += target_bytes(batches[m], positions, bytes_of_tokens_);
    }
    session_.model().begin_step({.request = StepRequest::evaluation(), .microbatches = inputs});
    executor_.run();
    const std::vector<double> of_step = session_.read_sums();
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += of_step[i];
  }
  // Each rank contributes the sums of its own stages over its own rows. Its other entries are zero.
  Communicator& world = session_.groups().world;
  const Tensor all = tensor_over<double>(sums, session_.model().sums().all.shape);
  world.all_reduce(all);
  world.all_reduce(tensor_over<std::int64_t>(counts, {static_cast<std::int64_t>(depths)}));
  world.all_reduce(tensor_over(std::span(&bytes, 1), {1}));
  const StepSums global(all, static_cast<std::int64_t>(depths) - 1);
  const Objective::Losses losses = session_.objective().losses(global.losses.span<double>(), counts);
  return {.step = step,
          .loss = losses.total,
          .depth_losses = losses.depths,
          .rows = rows_,
          .tokens = counts.front(),
          .bytes = bytes,
          .milliseconds =
              std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count(),
          .heads = depths > 1 && std::isfinite(losses.total) ? std::optional(heads_metrics(global, false))
                                                             : std::nullopt,
          .free_running = std::nullopt};
}

}  // namespace foretoken
