#pragma once
// The kernel of few_rows_linear.h for more than 16 rows.

#include "runtime/operators/products/few_rows_linear.h"

namespace foretoken::cuda::few_rows {

void linear_by_warpgroups(Stream& stream, const Problem& p, bool wide);

}  // namespace foretoken::cuda::few_rows
