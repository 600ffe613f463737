// Messages between the stages of a decoder that is spread over ranks: rows of the trunk, and moves of their
// state, as lists of numbers.

#include "model/generation/decoder.h"

namespace foretoken {

namespace {

using Numbers = std::vector<std::int32_t>;
using Rows = std::vector<Decoder::Row>;
using Moves = std::vector<Decoder::Move>;

Numbers numbers_of(std::span<const Decoder::Row> rows) {
  Numbers numbers;
  for (const Decoder::Row& row : rows) {
    numbers.insert(numbers.end(), {row.place.sequence, row.place.position, row.token,
                                   static_cast<std::int32_t>(row.branch.size())});
    numbers.insert(numbers.end(), row.branch.begin(), row.branch.end());
  }
  return numbers;
}

Numbers numbers_of(std::span<const Decoder::Move> moves) {
  Numbers numbers;
  for (const auto& [sequence, from, to] : moves) numbers.insert(numbers.end(), {sequence, from, to});
  return numbers;
}

/// The rows' branches are views of `numbers`.
void read(std::span<const std::int32_t> numbers, Rows& rows) {
  rows.clear();
  while (!numbers.empty()) {
    const auto branch = static_cast<std::size_t>(numbers[3]);
    rows.push_back(
        {.place = {numbers[0], numbers[1]}, .token = numbers[2], .branch = numbers.subspan(4, branch)});
    numbers = numbers.subspan(4 + branch);
  }
}

void read(std::span<const std::int32_t> numbers, Moves& moves) {
  moves.clear();
  for (; !numbers.empty(); numbers = numbers.subspan(3))
    moves.push_back({.sequence = numbers[0], .from = numbers[1], .to = numbers[2]});
}

}  // namespace

void Decoder::tell(std::span<const Row> rows) {
  if (options_.pipeline && is_last()) options_.pipeline->tell(TrunkPipeline::Order::rows, numbers_of(rows));
}

void Decoder::tell(std::span<const Move> moves) {
  if (options_.pipeline && is_last()) options_.pipeline->tell(TrunkPipeline::Order::moves, numbers_of(moves));
}

void Decoder::follow() {
  Numbers numbers;
  Rows rows;
  Moves moves;
  for (;;) switch (options_.pipeline->hear(numbers)) {
      case TrunkPipeline::Order::rows:
        read(numbers, rows);
        forward_part(0, rows, Input::previous_level);
        break;
      case TrunkPipeline::Order::moves:
        read(numbers, moves);
        settle(moves);
        break;
      case TrunkPipeline::Order::end:
        return;
    }
}

void Decoder::dismiss() {
  if (options_.pipeline) options_.pipeline->tell(TrunkPipeline::Order::end, {});
}

}  // namespace foretoken
