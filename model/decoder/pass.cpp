#include "model/decoder/pass.h"

#include <algorithm>

namespace foretoken {

namespace {

constexpr std::int64_t columns_of_rows = 4;  // token, position, slot, input slot

}  // namespace

std::int64_t Pass::indices() const {
  switch (work) {
    case Work::rows:
      return count * (columns_of_rows + path_length);
    case Work::moves:
      return 2 * count;
    case Work::logits:
    case Work::choose:
      break;
  }
  return count;
}

void Pass::append_to(Replays::Key& key) const {
  key.insert(key.end(), {static_cast<std::int64_t>(work), level, count, static_cast<std::int64_t>(input),
                         path_length, first_choice, vocabulary, candidates});
}

void write_rows(const Pass& pass, const CacheShape& cache, std::span<const DecoderRow> rows,
                std::span<std::int32_t> indices) {
  const auto n = static_cast<std::size_t>(pass.count), length = static_cast<std::size_t>(pass.path_length);
  for (std::size_t i = 0; i < n; ++i) {
    const auto& [sequence, position, token, branch, input_slot] = rows[std::min(i, rows.size() - 1)];
    const std::int32_t text_input = position - (pass.input == DepthRows::Input::own_output ? 1 : 0);
    indices[i] = token;
    indices[n + i] = position;
    indices[2 * n + i] = cache.index(sequence, branch.empty() ? position : branch.front());
    indices[3 * n + i] = cache.index(sequence, input_slot == -1 ? text_input : input_slot);
    const std::span<std::int32_t> path = indices.subspan(4 * n + i * length, length);
    for (std::size_t back = 0; back < length; ++back)
      path[back] =
          back < branch.size() ? branch[back] : std::max(position - static_cast<std::int32_t>(back), 0);
  }
}

void write_slots(const CacheShape& cache, std::span<const CacheSlot> slots, std::span<std::int32_t> indices) {
  for (std::size_t i = 0; i < slots.size(); ++i) indices[i] = cache.index(slots[i].sequence, slots[i].slot);
}

void write_moves(const Pass& pass, const CacheShape& cache, std::span<const SlotMove> moves,
                 std::span<std::int32_t> indices) {
  const auto n = static_cast<std::size_t>(pass.count);
  for (std::size_t i = 0; i < n; ++i) {
    const auto [sequence, from, to] = moves[std::min(i, moves.size() - 1)];
    indices[i] = cache.index(sequence, from);
    indices[n + i] = cache.index(sequence, to);
  }
}

RowIndices row_indices(const Pass& pass, const Tensor& indices) {
  const std::int64_t n = pass.count;
  const Shape paths{n, pass.path_length};
  const auto column = [&](std::int64_t i) { return indices.flat(i * n, n); };
  return {.tokens = column(0),
          .positions = column(1),
          .slots = column(2),
          .input_slots = column(3),
          .paths = pass.path_length > 0 ? indices.flat(columns_of_rows * n, paths.elements()).view(paths)
                                        : Tensor{}};
}

MoveIndices move_indices(const Pass& pass, const Tensor& indices) {
  return {.from = indices.flat(0, pass.count), .to = indices.flat(pass.count, pass.count)};
}

}  // namespace foretoken
