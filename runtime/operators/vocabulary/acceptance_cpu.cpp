#include "runtime/operators/vocabulary/acceptance.h"

namespace foretoken::cpu {

void count_acceptances(Stream&, const CountAcceptances& op) {
  const std::int64_t b = op.main.shape[0], t = op.main.shape[1], s = op.document_start.shape[1], k = op.depth;
  std::int64_t drafts = 0, accepted = 0;
  for (std::int64_t row = 0; row < b; ++row) {
    const std::int32_t* main = op.main.as<std::int32_t>() + row * t;
    const std::int32_t* draft = op.draft.as<std::int32_t>() + row * t;
    const std::int32_t* start = op.document_start.as<std::int32_t>() + row * s;
    std::int32_t* agrees = op.agrees.as<std::int32_t>() + row * t;
    for (std::int64_t i = 0; i + k < t; ++i) {
      agrees[i] = (k == 1 || agrees[i] != 0) && draft[i] == main[i + k];
      const bool valid = start[i] >= 0 && start[i + k + 1] == start[i];
      drafts += valid;
      accepted += valid && agrees[i] != 0;
    }
  }
  *op.drafts.as<double>() += static_cast<double>(drafts);
  *op.accepted.as<double>() += static_cast<double>(accepted);
}

}  // namespace foretoken::cpu
