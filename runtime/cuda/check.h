#pragma once
// Errors of the CUDA runtime as exceptions. Device code (.cu) throws through these: nvcc does not compile
// fmt.

#include <cuda_runtime_api.h>

#include "runtime/tensor.h"

namespace foretoken::cuda {

/// A DefectError "cuda: WHAT: out of memory (cudaErrorMemoryAllocation)" unless the call succeeded.
void check(cudaError_t error, const char* what);

/// Whether what cudaEventQuery() or cudaStreamQuery() was asked about has run, by what it returned; errors as
/// of check(). "Not ready" is wiped from the runtime's memory, where check_launch() would find it.
bool has_run(cudaError_t state, const char* what);

/// After a kernel launch: a launch that was refused. Faults of a running kernel come with a later call.
inline void check_launch(const char* kernel) {
  check(cudaGetLastError(), kernel);
}

/// A DefectError: what `who` was given is of a dtype that it does not compute in.
[[noreturn]] void throw_dtype(const char* who, DType dtype);

}  // namespace foretoken::cuda
