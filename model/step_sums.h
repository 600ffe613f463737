#pragma once
// Sums of a step or an evaluation over its microbatches. They are one tensor, so that one copy and one
// reduction over ranks serve all; counts are whole numbers in f64 and therefore exact. Entries that the step
// does not request (model/step_request.h) are zero.

#include "runtime/tensor.h"

namespace foretoken {

struct StepSums {
  Tensor all;     // f64, the other members in order
  Tensor losses;  // [D + 1] Σ loss over the valid targets of depth k
  // Acceptance (runtime/operators/vocabulary/acceptance.h):
  Tensor drafts;    // [D] positions with a draft of depth k that the main model checks
  Tensor accepted;  // [D] those whose draft and all shallower drafts equal the main model's choice
  // Gradient that each depth's loss, weighted, gives the trunk tensor that heads read:
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
