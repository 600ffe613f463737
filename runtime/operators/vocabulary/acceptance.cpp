#include "runtime/operators/vocabulary/acceptance.h"

#include "runtime/operators/dispatch.h"
#include "runtime/timing/profile.h"

namespace foretoken {

void count_acceptances(Stream& stream, const CountAcceptances& op) {
  const ProfileScope scope(stream, "count_acceptances");
  const Shape rows = op.main.shape;
  if (rows.rank() != 2 || op.draft.shape != rows || op.agrees.shape != rows || op.depth < 1 ||
      op.document_start.shape[0] != rows[0] || op.document_start.shape[1] < rows[1] + op.depth + 1 ||
      op.drafts.elements() != 1 || op.accepted.elements() != 1)
    throw DefectError("count_acceptances: main {}, draft {}, agrees {}, document_start {} at depth {}",
                      to_string(rows), to_string(op.draft.shape), to_string(op.agrees.shape),
                      to_string(op.document_start.shape), op.depth);
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::count_acceptances(stream, op);
  cpu::count_acceptances(stream, op);
}

}  // namespace foretoken
