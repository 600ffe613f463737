#include "runtime/cuda/check.h"

#include "runtime/error.h"

namespace foretoken::cuda {

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw DefectError("cuda: {}: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

void throw_dtype(const char* who, DType dtype) {
  throw DefectError("{}: dtype {} on CUDA, f32 or bf16 expected", who, name_of(dtype));
}

bool has_run(cudaError_t state, const char* what) {
  if (state == cudaErrorNotReady) {
    cudaGetLastError();
    return false;
  }
  check(state, what);
  return true;
}

}  // namespace foretoken::cuda
