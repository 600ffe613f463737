#pragma once
// Short sequences of operators that run repeatedly over the same tensors, as in decoding. Launching their
// kernels one by one takes the host longer than running them takes the GPU. The second run of a sequence on a
// GPU therefore captures a CUDA graph, which one call launches from then on.

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
  /// Runs the sequence of operators that `enqueue` enqueues. For one key, it must always enqueue the same
  /// operators over the same tensors, and it must not wait. On a CPU, and while the stream has a profile or
  /// timeline, every run calls `enqueue`. At most 512 graphs are kept; one more sequence drops them all.
  void run(const Key& key, const std::function<void()>& enqueue);

 private:
  struct Graphs;
  Stream& stream_;
  std::unique_ptr<Graphs> graphs_;
};

}  // namespace foretoken
