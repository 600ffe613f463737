#pragma once
// Looks up functions of the driver API at run time, so that the program also starts without a driver.

#include <cudaTypedefs.h>

#include "runtime/cuda/check.h"

namespace foretoken::cuda {

/// F is the function's type in <cudaTypedefs.h>, in its CUDA 12.0 version.
template <class F>
F driver_function(const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  check(cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result), name);
  if (result != cudaDriverEntryPointSuccess) check(cudaErrorNotSupported, name);
  return reinterpret_cast<F>(found);
}

}  // namespace foretoken::cuda
