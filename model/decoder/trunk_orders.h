#pragma once
// Encodes the orders that the last stage of a trunk pipeline sends to the other stages: the rows to compute
// or the moves to make, as lists of numbers (TrunkPipeline::send_order()).

#include <span>
#include <vector>

#include "model/decoder/pass.h"

namespace foretoken {

std::vector<std::int32_t> encode_rows(std::span<const DecoderRow> rows);
/// The rows' branches are views of `numbers`.
void decode_rows(std::span<const std::int32_t> numbers, std::vector<DecoderRow>& rows);

std::vector<std::int32_t> encode_moves(std::span<const SlotMove> moves);
void decode_moves(std::span<const std::int32_t> numbers, std::vector<SlotMove>& moves);

}  // namespace foretoken
