#pragma once
// Short sequences of operators that run again and again over the same tensors, as decoding does. To launch
// their kernels one by one takes the host longer than it takes a GPU to run them; so the second time that a
// sequence runs there it is recorded as a CUDA graph, and from then on replayed by one call.

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

  /// What tells one sequence from another.
  using Key = std::vector<std::int64_t>;
  /// Does what `enqueue` does, which under one key is always the same operators over the same tensors; it
  /// does not wait. On the CPU, and while operators are timed, it is called every time. Some hundred
  /// sequences are kept.
  void run(const Key& key, const std::function<void()>& enqueue);

 private:
  struct Graphs;
  Stream& stream_;
  std::unique_ptr<Graphs> graphs_;
};

}  // namespace foretoken
