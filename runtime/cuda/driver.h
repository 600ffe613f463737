#pragma once
// Functions of the driver's API, which a program finds at run time: it starts where there is no driver too.

#include <cudaTypedefs.h>

#include "runtime/cuda/check.h"

namespace foretoken::cuda {

/// F as <cudaTypedefs.h> has it for the function, in the version that CUDA 12.0 has.
template <class F>
F driver_function(const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  check(cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result), name);
  if (result != cudaDriverEntryPointSuccess) check(cudaErrorNotSupported, name);
  return reinterpret_cast<F>(found);
}

}  // namespace foretoken::cuda
