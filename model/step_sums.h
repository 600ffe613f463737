#pragma once
// Sums of a step or an evaluation over its microbatches. All are in one tensor, so that one copy and one
// reduction over ranks suffice. Counts are integers in f64 and therefore exact. Entries that the step does
// not request (model/step_request.h) are zero.

#include "runtime/tensor.h"

namespace foretoken {

struct StepSums {
  Tensor all;     // f64; the other members are views of it, in their order
  Tensor losses;  // [D + 1] Σ loss over the valid targets of depth k
  // Acceptance (runtime/operators/vocabulary/acceptance.h):
  Tensor drafts;    // [D] number of positions whose draft of depth k is compared with the main model
  Tensor accepted;  // [D] number of them whose drafts of depths 1..k all equal the main model's tokens
  // gₖ is the gradient that depth k's weighted loss gives the trunk tensor that heads read:
  Tensor squares;   // [D + 1] Σ gₖ² for each k = 0..D
  Tensor products;  // [D] Σ gₖ·g₀ for each k = 1..D

  static std::int64_t elements(std::int64_t depths) { return 5 * depths + 2; }
  StepSums() = default;
  /// Makes the members views of `all_sums` [elements(D)].
  StepSums(const Tensor& all_sums, std::int64_t depths)
      : all(all_sums),
        losses(all.flat(0, depths + 1)),
        drafts(all.flat(depths + 1, depths)),
        accepted(all.flat(2 * depths + 1, depths)),
        squares(all.flat(3 * depths + 1, depths + 1)),
        products(all.flat(4 * depths + 2, depths)) {}
};

}  // namespace foretoken
