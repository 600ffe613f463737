#include "runtime/cuda/memory.h"

#include "runtime/cuda/handle.h"
#include "runtime/error.h"

namespace foretoken::cuda {

void* allocate_device(std::size_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // clears the error, which is not sticky
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "memory");
    constexpr double gib = 1 << 30;
    throw UsageError(
        "cuda: {:.2f} GiB asked for, but {:.2f} of the GPU's {:.2f} GiB are free; a smaller "
        "train.microbatch, "
        "train.recompute or more pipeline ranks need less",
        static_cast<double>(bytes) / gib, static_cast<double>(free) / gib, static_cast<double>(total) / gib);
  }
  check(error, "memory");
  return memory;
}

void free_device(void* memory) {
  if (!gpu_abandoned) cudaFree(memory);
}

void zero_device(void* memory, std::size_t bytes) {
  check(cudaMemset(memory, 0, bytes), "memory");
  check(cudaStreamSynchronize(cudaStreamLegacy), "memory");
}

void* allocate_page_locked(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault), "page-locked memory");
  return memory;
}

void free_page_locked(void* memory) {
  if (!gpu_abandoned) cudaFreeHost(memory);
}

}  // namespace foretoken::cuda
