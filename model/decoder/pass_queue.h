#pragma once
// The passes that a decoder has queued and not yet sent to the device. start() sends them together: one copy
// of all their indices, then their operators, on a GPU as a replayed CUDA graph (runtime/replays.h).

#include <vector>

#include "model/decoder/cached_model.h"

namespace foretoken {

class PassQueue {
 public:
  /// The model must outlive the queue. Plans buffers in both arenas; host_arena must be page-locked if the
  /// device is a GPU.
  PassQueue(Stream& stream, Arena& arena, Arena& host_arena, CachedModel& model,
            const DecoderOptions& options);

  /// A pass that computes at most options.rows rows.
  void add_rows(int level, std::span<const DecoderRow> rows, DepthRows::Input input);
  /// A pass that computes the logits after each slot and, with Work::choose, chooses tokens from them. Sets
  /// pass.count.
  void add_outputs(Pass pass, std::span<const CacheSlot> slots);
  /// A pass of at most moves_per_pass() moves.
  void add_moves(std::span<const SlotMove> moves);
  std::size_t moves_per_pass() const { return static_cast<std::size_t>(indices_.elements() / 2); }

  /// Sends the queued passes to the device.
  void start();
  /// Waits until the device has run all passes that were started.
  void synchronize();

 private:
  struct Queued {
    Pass pass;
    std::int64_t first = 0;  // index in indices_
  };
  /// Reserves the pass's indices and returns them on the host.
  std::span<std::int32_t> reserve(const Pass& pass);
  std::int64_t padded(std::int64_t count) const;

  Stream& stream_;
  CachedModel& model_;
  TrunkPipeline* pipeline_;
  CacheShape cache_;
  std::int64_t most_rows_;
  Tensor indices_;           // i32
  std::int64_t queued_ = 0;  // number of indices of passes_
  // Indices on the host. The device may still copy indices of earlier passes, so those of the next passes are
  // written after them, from host_begin_ on.
  Tensor host_indices_;  // i32
  std::int64_t host_begin_ = 0;
  std::vector<Queued> passes_, running_;
  Replays replays_;
  Replays::Key key_;
};

}  // namespace foretoken
