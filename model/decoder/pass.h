#pragma once
// One pass of a decoder: operators that the device runs for a batch of rows, slots or moves. A few values
// (the struct Pass) select the operators; tokens, positions and slots are indices in device memory. Two
// passes with equal values therefore run the same operators on the same tensors, so a CUDA graph can be
// reused.

#include <cstdint>
#include <span>

#include "model/heads/head_drafting.h"
#include "runtime/replays.h"

namespace foretoken {

/// A cache slot of a sequence. The text's row at a position is kept in the slot of the same number.
struct CacheSlot {
  std::int32_t sequence = 0;
  std::int32_t slot = 0;
};

/// A new row of a level.
struct DecoderRow {
  std::int32_t sequence = 0;
  std::int32_t position = 0;
  std::int32_t token = 0;  // or Decoder::chosen(i): token i of those chosen since Decoder::tokens()
  /// In a tree: the slots of the row and of its ancestors among the drafts, nearest first.
  std::span<const std::int32_t> branch{};
  std::int32_t input_slot = -1;  // in a tree: the slot of the input state; −1: the slot of its position
};

/// A move of a row's data in the trunk's caches.
struct SlotMove {
  std::int32_t sequence = 0;
  std::int32_t from = 0, to = 0;  // slots
};

struct Pass {
  enum class Work : std::uint8_t { rows, logits, choose, moves };
  Work work = Work::rows;
  int level = 0;           // 0: the trunk; k: the head of depth k
  std::int64_t count = 0;  // number of rows, of slots whose logits are computed, or of moves
  // rows:
  DepthRows::Input input = DepthRows::Input::previous_depth;
  std::int64_t path_length = 0;  // length of the longest branch
  // choose:
  std::int64_t first_choice = 0;  // number of the pass's first chosen token
  std::int64_t vocabulary = 0;    // ids to choose from
  std::int64_t candidates = 0;    // tokens chosen per slot

  /// Number of the pass's i32 indices.
  std::int64_t indices() const;
  /// Appends all values that select the pass's operators and tensors.
  void append_to(Replays::Key& key) const;
};

// These write the indices of a pass. If there are fewer rows or moves than pass.count, the last one is
// repeated, which changes no result.
void write_rows(const Pass& pass, const CacheShape& cache, std::span<const DecoderRow> rows,
                std::span<std::int32_t> indices);
void write_slots(const CacheShape& cache, std::span<const CacheSlot> slots, std::span<std::int32_t> indices);
void write_moves(const Pass& pass, const CacheShape& cache, std::span<const SlotMove> moves,
                 std::span<std::int32_t> indices);

/// Views of the written indices on the device.
struct RowIndices {
  Tensor tokens, positions, slots, input_slots;  // [N]
  Tensor paths;                                  // [N, A]; undefined if no row is on a branch
};
RowIndices row_indices(const Pass& pass, const Tensor& indices);
struct MoveIndices {
  Tensor from, to;  // [number of moves]
};
MoveIndices move_indices(const Pass& pass, const Tensor& indices);

}  // namespace foretoken
