#include "model/decoder/trunk_orders.h"

namespace foretoken {

std::vector<std::int32_t> encode_rows(std::span<const DecoderRow> rows) {
  std::vector<std::int32_t> numbers;
  for (const DecoderRow& row : rows) {
    numbers.insert(numbers.end(),
                   {row.sequence, row.position, row.token, static_cast<std::int32_t>(row.branch.size())});
    numbers.insert(numbers.end(), row.branch.begin(), row.branch.end());
  }
  return numbers;
}

void decode_rows(std::span<const std::int32_t> numbers, std::vector<DecoderRow>& rows) {
  rows.clear();
  while (!numbers.empty()) {
    const auto branch = static_cast<std::size_t>(numbers[3]);
    rows.push_back({.sequence = numbers[0],
                    .position = numbers[1],
                    .token = numbers[2],
                    .branch = numbers.subspan(4, branch)});
    numbers = numbers.subspan(4 + branch);
  }
}

std::vector<std::int32_t> encode_moves(std::span<const SlotMove> moves) {
  std::vector<std::int32_t> numbers;
  for (const auto& [sequence, from, to] : moves) numbers.insert(numbers.end(), {sequence, from, to});
  return numbers;
}

void decode_moves(std::span<const std::int32_t> numbers, std::vector<SlotMove>& moves) {
  moves.clear();
  for (; !numbers.empty(); numbers = numbers.subspan(3))
    moves.push_back({.sequence = numbers[0], .from = numbers[1], .to = numbers[2]});
}

}  // namespace foretoken
