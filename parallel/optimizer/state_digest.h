#pragma once
// Finds memory faults in the state that a rank keeps between two updates. It computes fingerprints of the
// weights and owned moments after an update and compares them before the next one; nothing may write to the
// state in between. Every rank checks its own memory, so state that no other rank has (a sharded optimizer's
// moments, or all state of a single rank) is checked too.

#include <string>
#include <vector>

#include "parallel/optimizer/optimizer_state.h"
#include "runtime/stream.h"

namespace foretoken {

class StateDigest {
 public:
  /// Allocates three fingerprints per tensor in the arena. The state must outlive the object.
  StateDigest(Arena& arena, const OptimizerState& state, const Parameters& parameters);

  /// Enqueues the fingerprints of the current state. Nothing may write to the state until close().
  void take(Stream& stream);
  /// Enqueues fingerprints of the current state to compare with those of take(); does nothing if take() was
  /// not called since the last close(). The result stays valid until changed(), even while the next take()
  /// runs.
  void compare(Stream& stream);
  /// Call before an update.
  void close() { taken_ = false; }
  /// Whether changed() has a comparison to read.
  bool compared() const { return compared_; }
  /// Waits for compare() and returns the first tensor whose bits have changed since the preceding take(),
  /// "exp_avg of model.norm.weight". Empty if no tensor has changed or if nothing was compared since the last
  /// call.
  std::string changed(Stream& stream);

 private:
  void fingerprints(Stream& stream, std::int64_t slot);

  std::vector<std::string> names_;
  std::vector<Tensor> tensors_;
  Tensor bits_;  // [3 slots · tensors] i64
  /// Slot of the last take(). compare() writes the next slot, the next take() the one after that.
  std::int64_t slot_ = 0;
  std::int64_t first_ = 0;  // first slot of the pair that changed() reads
  bool taken_ = false;
  bool compared_ = false;
};

}  // namespace foretoken
