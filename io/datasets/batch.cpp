#include "io/datasets/batch.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "runtime/error.h"

namespace foretoken {

namespace {

void validate(const RowShape& row, const BatchLayout& layout) {
  if (layout.rows < 1 || layout.microbatches < 1 || layout.dp < 1 || layout.dp_rank < 0 ||
      layout.dp_rank >= layout.dp)
    throw UsageError(
        "batch: {} rows × {} microbatches on data-parallel rank {} of {}: counts must be positive, "
        "the rank less than the number of ranks",
        layout.rows, layout.microbatches, layout.dp_rank, layout.dp);
  constexpr std::int64_t limit = std::numeric_limits<std::int32_t>::max();
  if (layout.dp > limit || layout.rows > limit / layout.microbatches / row.tokens())
    throw UsageError(
        "batch: {} rows × {} microbatches of {} tokens are more than 2^31 tokens a step and rank",
        layout.rows, layout.microbatches, row.tokens());
}

}  // namespace

BatchLoader::BatchLoader(const TokenDataset& dataset, const RowShape& row, const BatchLayout& layout,
                         std::optional<TrainingOrder> order)
    : dataset_(dataset),
      sampler_(dataset.path().string(), dataset.tokens(), row, order ? order->seed : 0),
      layout_(layout),
      endless_(order.has_value()),
      consumed_(order ? order->consumed_samples : 0) {
  validate(row, layout);
  if (consumed_ < 0) throw UsageError("batch: {} consumed samples, expected at least 0", consumed_);
  current_ = make_step();
  ahead_ = make_step();
  thread_ = std::thread([this] { read_ahead(); });
}

BatchLoader::~BatchLoader() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

BatchLoader::Step BatchLoader::make_step() const {
  Step step;
  const std::int64_t length = sampler_.row().tokens();
  const std::int64_t elements = layout_.rows * length;  // per microbatch
  step.tokens.resize(static_cast<std::size_t>(elements * layout_.microbatches));
  step.document_start.resize(step.tokens.size());
  const Shape shape{layout_.microbatches, layout_.rows, length};
  const Tensor tokens = tensor_over(std::span(step.tokens), shape);
  const Tensor starts = tensor_over(std::span(step.document_start), shape);
  for (std::int64_t m = 0; m < layout_.microbatches; ++m)
    step.microbatches.push_back({.tokens = tokens.rows(m, 1).view({layout_.rows, length}),
                                 .document_start = starts.rows(m, 1).view({layout_.rows, length})});
  return step;
}

std::span<const Batch> BatchLoader::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return ready_; });
  if (ahead_.failure) std::rethrow_exception(ahead_.failure);
  if (ahead_.end) return {};
  std::swap(current_, ahead_);
  consumed_ += layout_.global_rows();
  if (!endless_) consumed_ = std::min(consumed_, sampler_.samples());
  ready_ = false;
  changed_.notify_all();
  return current_.microbatches;
}

void BatchLoader::read_ahead() {
  for (std::int64_t first = consumed_;; first += layout_.global_rows()) {
    try {
      ahead_.end = !endless_ && first >= sampler_.samples();
      if (!ahead_.end) fill(ahead_, first);
    } catch (...) {
      ahead_.failure = std::current_exception();
    }
    std::unique_lock lock(mutex_);
    ready_ = true;
    changed_.notify_all();
    if (ahead_.end || ahead_.failure) return;
    changed_.wait(lock, [&] { return stopping_ || !ready_; });
    if (stopping_) return;
  }
}

void BatchLoader::fill(Step& step, std::int64_t first_sample) const {
  const std::size_t length = static_cast<std::size_t>(sampler_.row().tokens());
  for (std::int64_t m = 0; m < layout_.microbatches; ++m) {
    Batch& batch = step.microbatches[static_cast<std::size_t>(m)];
    batch.valid_rows = 0;
    for (std::int64_t row = 0; row < layout_.rows; ++row) {
      const std::int64_t sample = first_sample + (m * layout_.dp + layout_.dp_rank) * layout_.rows + row;
      const std::span tokens =
          batch.tokens.span<std::int32_t>().subspan(static_cast<std::size_t>(row) * length, length);
      const std::span starts =
          batch.document_start.span<std::int32_t>().subspan(static_cast<std::size_t>(row) * length, length);
      if (endless_ || sample < sampler_.samples()) {
        fill_row(endless_ ? sampler_.shuffled_begin(sample) : sampler_.sequential_begin(sample), tokens,
                 starts);
        ++batch.valid_rows;
      } else {
        std::fill(tokens.begin(), tokens.end(), 0);
        std::fill(starts.begin(), starts.end(), -1);
      }
    }
  }
}

void BatchLoader::fill_row(std::int64_t begin, std::span<std::int32_t> tokens,
                           std::span<std::int32_t> document_start) const {
  dataset_.read(begin, tokens);
  const std::span<const std::int64_t> offsets = dataset_.document_offsets();
  std::size_t document = static_cast<std::size_t>(dataset_.document_of(begin));
  for (std::size_t i = 0; i < document_start.size(); ++i) {
    if (begin + static_cast<std::int64_t>(i) == offsets[document + 1]) ++document;
    document_start[i] = static_cast<std::int32_t>(std::max<std::int64_t>(0, offsets[document] - begin));
  }
}

}  // namespace foretoken
