#include "model/decoder/pass_queue.h"

#include <algorithm>

#include "runtime/error.h"
#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken {

PassQueue::PassQueue(Stream& stream, Arena& arena, Arena& host_arena, CachedModel& model,
                     const DecoderOptions& options)
    : stream_(stream),
      model_(model),
      pipeline_(options.pipeline),
      cache_(options.cache()),
      most_rows_(options.rows),
      replays_(stream) {
  constexpr std::int64_t several_passes = std::int64_t{1} << 14, in_flight = 4;
  const Pass largest{.count = std::max(options.rows, options.logits_per_pass()),
                     .path_length = options.branches};
  indices_ = arena.tensor(DType::i32, {std::max(largest.indices(), several_passes)});
  host_indices_ = host_arena.tensor(DType::i32, {in_flight * indices_.elements()});
}

std::span<std::int32_t> PassQueue::reserve(const Pass& pass) {
  const std::int64_t count = pass.indices();
  if (count > indices_.elements())
    throw DefectError("decoder: a pass of {} rows, slots or moves has {} indices, planned for at most {}",
                      pass.count, count, indices_.elements());
  if (queued_ + count > indices_.elements()) start();
  passes_.push_back({pass, queued_});
  queued_ += count;
  return host_indices_.flat(host_begin_ + passes_.back().first, count).span<std::int32_t>();
}

void PassQueue::add_rows(int level, std::span<const DecoderRow> rows, DepthRows::Input input) {
  std::size_t longest = 0;
  for (const DecoderRow& row : rows) longest = std::max(longest, row.branch.size());
  const Pass pass{.level = level,
                  .count = level == 0 ? std::ssize(rows) : padded(std::ssize(rows)),
                  .input = input,
                  .path_length = static_cast<std::int64_t>(longest)};
  write_rows(pass, cache_, rows, reserve(pass));
}

void PassQueue::add_outputs(Pass pass, std::span<const CacheSlot> slots) {
  pass.count = std::ssize(slots);
  write_slots(cache_, slots, reserve(pass));
}

void PassQueue::add_moves(std::span<const SlotMove> moves) {
  const Pass pass{.work = Pass::Work::moves, .count = padded(std::ssize(moves))};
  write_moves(pass, cache_, moves, reserve(pass));
}

/// The number of a head's rows, or of moves, changes from round to round, and a GPU captures a CUDA graph for
/// each number. The number is therefore rounded up; the last row or move is repeated.
std::int64_t PassQueue::padded(std::int64_t count) const {
  constexpr std::int64_t step = 8;
  if (stream_.device() == DeviceKind::cpu || count <= step || count > most_few_rows) return count;
  return std::max(count, std::min((count + step - 1) / step * step, most_rows_));
}

void PassQueue::start() {
  if (passes_.empty()) return;
  copy(stream_, host_indices_.flat(host_begin_, queued_), indices_.flat(0, queued_));
  host_begin_ += queued_;
  queued_ = 0;
  running_.swap(passes_);
  passes_.clear();
  key_.clear();
  bool few = true;
  for (const auto& [pass, first] : running_) {
    pass.append_to(key_);
    few = few && pass.count <= most_few_rows;
  }
  const auto run_all = [this] {
    for (const auto& [pass, first] : running_) model_.run(pass, indices_.flat(first, pass.indices()));
  };
  if (few)
    replays_.run(key_, run_all);
  else
    run_all();  // on a GPU the kernels of many rows take longer than launching them
  if (host_begin_ + indices_.elements() > host_indices_.elements()) synchronize();
}

void PassQueue::synchronize() {
  if (pipeline_)
    pipeline_->synchronize();
  else
    stream_.synchronize();
  host_begin_ = 0;
}

}  // namespace foretoken
