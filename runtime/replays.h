#pragma once
// Short sequences of operators that run repeatedly over the same tensors, as in decoding. Launching their
// kernels one by one takes the host longer than running them takes the GPU. The second run of a sequence on a
// GPU therefore records a CUDA graph, and one call replays it from then on.

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "runtime/stream.h"

namespace foretoken {

class Replays {
 public:
  explicit Replays(Stream& stream);
  ~Replays();
  Replays(const Replays&) = delete;
  Replays& operator=(const Replays&) = delete;

  /// Identifies a sequence.
  using Key = std::vector<std::int64_t>;
  /// Runs the operators that `enqueue` enqueues: for one key, always the same operators over the same
  /// tensors. `enqueue` must not wait. Every run calls it on the CPU, and while the stream has a profile or
  /// timeline. At most 512 sequences are kept; all are dropped when one more comes.
  void run(const Key& key, const std::function<void()>& enqueue);

 private:
  struct Graphs;
  Stream& stream_;
  std::unique_ptr<Graphs> graphs_;
};

}  // namespace foretoken
