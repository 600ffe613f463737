#pragma once
// What every layer of a stage shares while it runs one microbatch.

#include <cstdint>

#include "model/config.h"
#include "runtime/stream.h"

namespace foretoken {

/// The size of a microbatch.
struct MicrobatchShape {
  std::int64_t rows = 0;                                 // B
  std::int64_t length = 0;                               // T
  std::int64_t tokens() const { return rows * length; }  // N
};

/// Which depths k = 1..64 a microbatch trains; the main model's, 0, always.
class DepthSet {
 public:
  static DepthSet all() { return DepthSet(~std::uint64_t{0}); }
  DepthSet() = default;  // the main model alone

  void insert(int depth) { bits_ |= std::uint64_t{1} << (depth - 1); }
  bool has(int depth) const { return depth == 0 || (bits_ >> (depth - 1) & 1) != 0; }
  /// The largest of 1..depths, 0 where none of them is in it.
  int deepest(int depths) const {
    while (depths > 0 && !has(depths)) --depths;
    return depths;
  }
  friend bool operator==(const DepthSet&, const DepthSet&) = default;

 private:
  explicit DepthSet(std::uint64_t bits) : bits_(bits) {}
  std::uint64_t bits_ = 0;
};

/// Depths first..last; none where last is first − 1.
struct DepthRange {
  int first = 1;
  int last = 0;
  static DepthRange all() { return {1, 64}; }
  bool empty() const { return last < first; }
  bool has(std::int64_t depth) const { return first <= depth && depth <= last; }
};

/// A microbatch of rows of T + 1 + D tokens.
struct MicrobatchInput {
  Tensor tokens;          // [B, T + 1 + D] i32
  Tensor document_start;  // [B, T + 1 + D] i32, −1 in rows that do not count
  DepthSet depths = DepthSet::all();
};

class Fp8Products;

/// How the buffers of a stage's layers are planned.
struct ActivationPlan {
  MicrobatchShape shape;
  DType dtype = DType::f32;  // of activations and their gradients
  Recompute recompute = Recompute::none;
  bool split_backward = false;  // weight gradients may be taken later than input gradients
  Fp8Products* fp8 = nullptr;   // where the layers' products run in FP8
};

/// The halves of backward: which to run, or which have run.
struct Halves {
  bool input = true;
  bool weight = true;
};

struct LayerContext {
  Stream& stream;
  Tensor rope_cos;        // [T, HS/2]
  Tensor rope_sin;        // [T, HS/2]
  Tensor document_start;  // [B, S] i32; undefined where attention may cross document borders
  /// Backward: what other microbatches of the step have run on this stage. The first to run a half overwrites
  /// the matrices' gradients that it makes, those after it add to them.
  Halves begun{.input = false, .weight = false};
  /// No backward follows: products run in the activations' dtype.
  bool evaluates = false;
  /// Backward's input half leaves the gradients of parameters alone: what runs is measured, not trained.
  bool measured = false;
};

}  // namespace foretoken
