#pragma once
// Kernels that start while previous kernels on the stream still run (CUDA C++ programming guide,
// "Programmatic dependent launch"). A sequence of short kernels otherwise spends most of its time between the
// end of one kernel and the start of the next. Before wait_for_earlier_work(), such a kernel must not write,
// and it may read only data that no unfinished kernel before it writes, such as weights during generation.
// After it, the kernel must read results of earlier kernels by ordinary loads. Read-only loads (ld.global.nc,
// __restrict__) are wrong, because this data changes during the kernel's lifetime.

#include "runtime/cuda/device.cuh"

namespace foretoken::cuda {

/// The next kernel's blocks may start, on free resources, once every block of this kernel has called this or
/// ended.
__device__ __forceinline__ void launch_dependents() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

/// Returns when all earlier work on the stream has completed and its writes are visible. Every kernel
/// launched by launch_overlapped() must call it: only then does the end of a kernel imply the end of all
/// kernels before it.
__device__ __forceinline__ void wait_for_earlier_work() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}

/// Launch configuration.
struct Blocks {
  dim3 grid;
  int threads = 0;
  unsigned cluster = 1;    // blocks of a cluster, along x
  std::size_t shared = 0;  // bytes of dynamic shared memory
};

/// Launches a kernel that may start before earlier work on the stream has completed. The kernel must call
/// wait_for_earlier_work().
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
