#pragma once
// Errors of the CUDA runtime as exceptions.

#include <cuda_runtime_api.h>

namespace foretoken::cuda {

/// A DefectError "cuda: WHAT: out of memory (cudaErrorMemoryAllocation)" unless the call succeeded.
void check(cudaError_t error, const char* what);

/// After a kernel launch: a launch that was refused. Faults of a running kernel come with a later call.
inline void check_launch(const char* kernel) {
  check(cudaGetLastError(), kernel);
}

}  // namespace foretoken::cuda
