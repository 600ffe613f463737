#include "runtime/cuda/check.h"
#include "tests/benchmarks/occupy.h"

namespace foretoken::benchmarks {

namespace {

// Shared memory of a block: leaves too little on a multiprocessor for a block of a large product.
constexpr int bytes = 100 << 10;

__global__ void wait(const volatile int* done) {
  while (*done == 0) __nanosleep(1000);
}

}  // namespace

Occupied::Occupied(int blocks) {
  if (blocks == 0) return;
  cuda::check(cudaHostAlloc(&done_, sizeof(int), cudaHostAllocMapped), "flag");
  *done_ = 0;
  cuda::check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
  cuda::check(cudaFuncSetAttribute(wait, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "wait");
  wait<<<static_cast<unsigned>(blocks), 512, bytes, stream_>>>(done_);
  cuda::check_launch("wait");
}

Occupied::~Occupied() {
  if (done_ == nullptr) return;
  *const_cast<volatile int*>(done_) = 1;
  cudaStreamSynchronize(stream_);
  cudaStreamDestroy(stream_);
  cudaFreeHost(done_);
}

}  // namespace foretoken::benchmarks
