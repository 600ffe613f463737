#pragma once
// Kernels that start while the previous kernels on the stream still finish (CUDA C++ programming guide,
// "Programmatic dependent launch"). A sequence of short kernels spends most of its time between the end of
// one kernel and the start of the next. Before wait_for_earlier_work() such a kernel must not write, and may
// read only data that no kernel writes, such as weights. After it, the kernel must read the results of
// earlier kernels with ordinary loads: they are not constant for the kernel's lifetime, so read-only loads
// are wrong.

#include "runtime/cuda/device.cuh"

namespace foretoken::cuda {

/// Lets the next kernel's blocks start on the resources that this kernel frees.
__device__ __forceinline__ void let_next_begin() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

/// Returns when all earlier work on the stream has completed and its writes are visible. Every kernel
/// launched by launch_overlapped() must call it: only then does the end of a kernel imply the end of all
/// earlier ones.
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
