#include "runtime/cuda/check.h"

#include "runtime/error.h"

namespace foretoken::cuda {

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw DefectError("cuda: {}: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

}  // namespace foretoken::cuda
