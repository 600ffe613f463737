#pragma once
// Finds memory faults in what a rank keeps from one update to the next: fingerprints of its weights and of
// the moments that it owns are taken after an update and compared before the following one, between which
// nothing may write there. Every rank checks its own memory, so that what no other rank has a copy of (a
// sharded optimizer's state, a single rank's) is checked as well.

#include <string>
#include <vector>

#include "parallel/optimizer.h"

namespace foretoken {

class StateDigest {
 public:
  /// Takes memory for three fingerprints a tensor from the arena. The optimizer must outlive it.
  StateDigest(Arena& arena, const Optimizer& optimizer, const Parameters& parameters);

  /// Enqueues the fingerprints of the state as it is: nothing may write there until close().
  void take(Stream& stream);
  /// Enqueues those of the state now; nothing where none were taken since the last close(). The result stays
  /// until changed(), also while the next take() runs.
  void compare(Stream& stream);
  /// An update follows.
  void close() { taken_ = false; }
  /// Whether compare() enqueued fingerprints that changed() has not read yet.
  bool compared() const { return compared_; }
  /// Waits for compare() and returns the first tensor whose bits have changed since the take() before it,
  /// "exp_avg of model.norm.weight"; empty where none has, and where nothing was compared since the last
  /// call.
  std::string changed(Stream& stream);

 private:
  void fingerprints(Stream& stream, std::int64_t slot);

  std::vector<std::string> names_;
  std::vector<Tensor> tensors_;
  Tensor bits_;             // [3 slots · tensors] i64
  std::int64_t slot_ = 0;   // of the last take(); compare() fills the next one, and take() the one after that
  std::int64_t first_ = 0;  // of the pair that changed() reads
  bool taken_ = false;
  bool compared_ = false;
};

}  // namespace foretoken
