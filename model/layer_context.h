#pragma once
// State that the layers of a stage share while they run one microbatch.

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

/// The depths k = 1..64 that a microbatch trains; depth 0, the main model, is always included.
class DepthSet {
 public:
  static DepthSet all() { return DepthSet(~std::uint64_t{0}); }
  DepthSet() = default;  // depth 0 only

  void insert(int depth) { bits_ |= std::uint64_t{1} << (depth - 1); }
  bool has(int depth) const { return depth == 0 || (bits_ >> (depth - 1) & 1) != 0; }
  /// The largest depth of the set in 1..depths; 0 if the set has no such depth.
  int deepest(int depths) const {
    while (depths > 0 && !has(depths)) --depths;
    return depths;
  }
  friend bool operator==(const DepthSet&, const DepthSet&) = default;

 private:
  explicit DepthSet(std::uint64_t bits) : bits_(bits) {}
  std::uint64_t bits_ = 0;
};

/// The depths first..last; empty if last < first.
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
  Tensor document_start;  // [B, T + 1 + D] i32, where the token's document starts in the row; −1: padding
  DepthSet depths = DepthSet::all();
};

class Fp8Products;

/// The properties that determine the buffers of a stage's layers.
struct ActivationPlan {
  MicrobatchShape shape;
  DType dtype = DType::f32;  // dtype of activations and their gradients
  Recompute recompute = Recompute::none;
  bool split_backward = false;  // backward_weight may run later than backward_input
  Fp8Products* fp8 = nullptr;   // set if the layers' products run in FP8
};

/// A choice of the two halves of backward: the input gradients and the weight gradients.
struct Halves {
  bool input = true;
  bool weight = true;
};

struct LayerContext {
  Stream& stream;
  Tensor rope_cos;        // [T, HS/2]
  Tensor rope_sin;        // [T, HS/2]
  Tensor document_start;  // [B, S] i32; undefined if attention may cross document borders
  /// In backward: the halves that earlier microbatches of this step have already run on this stage. The first
  /// microbatch that runs a half overwrites the matrix gradients that this half computes; later ones add to
  /// them.
  Halves halves_run{.input = false, .weight = false};
  /// No backward follows. Products then run in the activations' dtype, not in FP8.
  bool forward_only = false;
  /// Backward only measures a gradient: its input half does not change the gradients of parameters.
  bool measure_only = false;
};

}  // namespace foretoken
