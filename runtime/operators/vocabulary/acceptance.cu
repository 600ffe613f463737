#include "runtime/cuda/context.h"
#include "runtime/cuda/device.cuh"
#include "runtime/operators/vocabulary/acceptance.h"

namespace foretoken::cuda {

namespace {

constexpr int threads = 256;

struct Rows {
  const std::int32_t *main, *draft, *document_start;
  std::int64_t n, t, s, depth;
};

/// Updates agrees and adds to the counts drafts and accepted (acceptance.h). A thread owns one position of
/// one row; a block adds the counts of its threads. The counts are integers, so the order in which blocks add
/// them does not change the result.
__global__ void __launch_bounds__(threads) count(Rows rows, std::int32_t* __restrict__ agrees,
                                                 double* __restrict__ drafts, double* __restrict__ accepted) {
  __shared__ int shared[threads / 32];
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  const std::int64_t i = n % rows.t, k = rows.depth;
  bool valid = false, agreed = false;
  if (n < rows.n && i + k < rows.t) {
    agreed = (k == 1 || agrees[n] != 0) && rows.draft[n] == rows.main[n + k];
    agrees[n] = agreed;
    const std::int32_t* start = rows.document_start + n / rows.t * rows.s + i;
    valid = start[0] >= 0 && start[k + 1] == start[0];
  }
  const int block_drafts = block_sum(valid ? 1 : 0, shared);
  const int block_accepted = block_sum(valid && agreed ? 1 : 0, shared);
  if (threadIdx.x != 0) return;
  atomicAdd(drafts, static_cast<double>(block_drafts));
  atomicAdd(accepted, static_cast<double>(block_accepted));
}

}  // namespace

void count_acceptances(Stream& stream, const CountAcceptances& op) {
  const Rows rows{.main = op.main.as<std::int32_t>(),
                  .draft = op.draft.as<std::int32_t>(),
                  .document_start = op.document_start.as<std::int32_t>(),
                  .n = op.main.elements(),
                  .t = op.main.shape[1],
                  .s = op.document_start.shape[1],
                  .depth = op.depth};
  if (rows.n == 0) return;
  count<<<blocks_for(rows.n, threads), threads, 0, stream.cuda().stream()>>>(
      rows, op.agrees.as<std::int32_t>(), op.drafts.as<double>(), op.accepted.as<double>());
  check_launch("count_acceptances");
}

}  // namespace foretoken::cuda
