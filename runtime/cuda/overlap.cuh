#pragma once
// Kernels that begin while those before them on the stream still end (CUDA C++ programming guide,
// "Programmatic dependent launch"): between short kernels most of the time goes into the end of one and the
// start of the next. Until wait_for_earlier_work() such a kernel may read what no kernel writes, weights
// above all, and must not write. After it reads what earlier kernels wrote through ordinary loads: not as
// constant for the kernel's life, which it is not.

#include "runtime/cuda/device.cuh"

namespace foretoken::cuda {

/// Lets the next kernel take up the room that this one leaves.
__device__ __forceinline__ void let_next_begin() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

/// Returns when all that was enqueued before has ended and its writes are seen. Every kernel that was
/// launched by launch_overlapped() calls it: that is what makes the end of one kernel the end of all before
/// it.
__device__ __forceinline__ void wait_for_earlier_work() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}

struct Blocks {
  dim3 grid;
  int threads = 0;
  unsigned cluster = 1;    // blocks of a cluster, along x
  std::size_t shared = 0;  // bytes of dynamic shared memory
};

template <class... Parameters, class... Arguments>
void launch_overlapped(cudaStream_t stream, void (*kernel)(Parameters...), const Blocks& blocks,
                       const Arguments&... arguments) {
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim = {blocks.cluster, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = blocks.grid;
  config.blockDim = dim3(static_cast<unsigned>(blocks.threads));
  config.dynamicSmemBytes = blocks.shared;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = blocks.cluster > 1 ? 2 : 1;
  check(cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...), "launch");
}

}  // namespace foretoken::cuda
