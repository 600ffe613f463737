#pragma once

#include "runtime/cuda/check.h"

namespace foretoken::cuda {

/// Allows a kernel `bytes` of dynamic shared memory. Calls CUDA only the first time, so `bytes` must be the
/// same in all calls for a kernel. Throws a DefectError if the GPU has less.
template <auto kernel>
void allow_shared_memory(int bytes, const char* who) {
  static const bool allowed = [bytes, who] {
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                               cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
          who);
    return true;
  }();
  static_cast<void>(allowed);
}

}  // namespace foretoken::cuda
