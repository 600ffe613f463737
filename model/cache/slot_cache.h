#pragma once
// Caches of a model that generates text: one row of numbers per slot. Each sequence has one slot for every
// position and, after them, slots for the rows of draft trees, in which several rows share a position.

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
  /// The number of a sequence's slot among the slots of all sequences.
  std::int32_t index(std::int32_t sequence, std::int32_t slot) const {
    return static_cast<std::int32_t>(sequence * slots() + slot);
  }
};

/// What all caches of a model are planned from.
struct CachePlan {
  Arena& arena;
  DType dtype = DType::f32;
  CacheShape shape;
};

class SlotCache {
 public:
  SlotCache(const CachePlan& plan, std::int64_t width);

  /// cache[slots[n]] = x[n]. x is [N, W] and slots [N] i32, numbered by CacheShape::index(), as below.
  void store(Stream& stream, const Tensor& x, const Tensor& slots) const;
  /// out[n] = cache[slots[n]], out [N, W]
  void load(Stream& stream, const Tensor& slots, const Tensor& out) const;
  /// cache[to[m]] = cache[from[m]] for m = 0, 1, … in order. No row may move twice.
  void move(Stream& stream, const Tensor& from, const Tensor& to) const;

  /// [S, P, W]
  const Tensor& tensor() const { return tensor_; }

 private:
  Tensor tensor_;
};

}  // namespace foretoken
