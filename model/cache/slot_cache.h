#pragma once
// A cache of a model that generates text: one row per slot, such as a token's keys and values. Each sequence
// has one slot per position. Further slots hold the rows of draft trees, where several rows share a position.

#include <cstdint>

#include "runtime/arena.h"
#include "runtime/stream.h"

namespace foretoken {

struct CacheShape {
  std::int64_t sequences = 1;  // S
  std::int64_t positions = 0;  // maximum length of a sequence
  std::int64_t branches = 0;   // slots per sequence in addition to its positions

  /// Slots per sequence, P.
  std::int64_t slots() const { return positions + branches; }
  /// Index of a sequence's slot among the slots of all sequences.
  std::int32_t index(std::int32_t sequence, std::int32_t slot) const {
    return static_cast<std::int32_t>(sequence * slots() + slot);
  }
};

/// Parameters that all caches of a model are planned with.
struct CachePlan {
  Arena& arena;
  DType dtype = DType::f32;
  CacheShape shape;
};

class SlotCache {
 public:
  SlotCache(const CachePlan& plan, std::int64_t width);

  /// cache[slots[n]] = x[n], x [N, W]. Slots, here and below, are i32 and come from CacheShape::index().
  void store(Stream& stream, const Tensor& x, const Tensor& slots) const;
  /// out[n] = cache[slots[n]], out [N, W]
  void load(Stream& stream, const Tensor& slots, const Tensor& out) const;
  /// cache[to[m]] = cache[from[m]] for m = 0, 1, … in this order. No slot may be in `from` twice.
  void move(Stream& stream, const Tensor& from, const Tensor& to) const;

  /// [S, P, W]
  const Tensor& tensor() const { return tensor_; }

 private:
  Tensor tensor_;
};

}  // namespace foretoken
