#pragma once
// Converts errors of the CUDA runtime to exceptions. Device code (.cu) throws through these functions,
// because nvcc does not compile fmt.

#include <cuda_runtime_api.h>

#include "runtime/tensor.h"

namespace foretoken::cuda {

/// Throws DefectError, as "cuda: WHAT: out of memory (cudaErrorMemoryAllocation)", unless the call succeeded.
void check(cudaError_t error, const char* what);

/// Interprets the result of cudaEventQuery() or cudaStreamQuery(): true if the work has completed, false if
/// it has not. Throws as check() does. Clears "not ready" from the runtime's last error, which check_launch()
/// reads.
bool has_run(cudaError_t state, const char* what);

/// Call after a kernel launch: throws if the launch failed. A later call reports faults of a running kernel.
inline void check_launch(const char* kernel) {
  check(cudaGetLastError(), kernel);
}

/// Throws DefectError: the operator `who` does not support `dtype`.
[[noreturn]] void throw_dtype(const char* who, DType dtype);

}  // namespace foretoken::cuda
