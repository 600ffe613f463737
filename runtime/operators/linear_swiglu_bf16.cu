#include "runtime/operators/linear_swiglu_bf16.cuh"

namespace foretoken::cuda::linear_swiglu {

namespace {

template <Pass pass>
using Chosen = Tiling<pass, 256, 3, 2, 1>;
constexpr int group = 8;

}  // namespace

void forward_bf16(cudaStream_t stream, int multiprocessors, const Problem& p) {
  launch<Chosen<Pass::forward>>(stream, multiprocessors, group, p);
}

void backward_bf16(cudaStream_t stream, int multiprocessors, const Problem& p) {
  launch<Chosen<Pass::backward>>(stream, multiprocessors, group, p);
}

}  // namespace foretoken::cuda::linear_swiglu
