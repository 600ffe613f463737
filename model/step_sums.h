#pragma once
// What a step or an evaluation sums up over its microbatches. All of it is one tensor, so
// that it is read, and summed over ranks, at once; counts are whole numbers in f64, which are exact.

#include "runtime/tensor.h"

namespace foretoken {

struct StepSums {
  Tensor all;     // f64, the others one after another
  Tensor losses;  // [D + 1] Σ loss over the valid targets of depth k
  // Of acceptance (runtime/operators/acceptance.h); undefined where it is not counted:
  Tensor drafts;    // [D] positions with a draft of depth k that the main model judges
  Tensor accepted;  // [D] those where it and all before it are what the main model says
  // Of the gradients that each depth's loss, weights included, gives the tensor of the trunk that heads read;
  // undefined where they are not measured:
  Tensor squares;   // [D + 1] Σ gₖ²
  Tensor products;  // [D] Σ gₖ·g₀ of k = 1..D

  static std::int64_t elements(std::int64_t depths) { return 5 * depths + 2; }
  StepSums() = default;
  /// Views of `all` [elements(D)].
  StepSums(const Tensor& all_sums, std::int64_t depths)
      : all(all_sums),
        losses(all.flat(0, depths + 1)),
        drafts(all.flat(depths + 1, depths)),
        accepted(all.flat(2 * depths + 1, depths)),
        squares(all.flat(3 * depths + 1, depths + 1)),
        products(all.flat(4 * depths + 2, depths)) {}
};

}  // namespace foretoken
