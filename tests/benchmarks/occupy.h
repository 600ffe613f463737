#pragma once
// Occupies multiprocessors, like pipeline receives that wait for their messages.

#include <cuda_runtime_api.h>

namespace foretoken::benchmarks {

/// While the object exists, `blocks` thread blocks wait on the GPU, each on its own multiprocessor.
class Occupied {
 public:
  explicit Occupied(int blocks);
  ~Occupied();
  Occupied(const Occupied&) = delete;
  Occupied& operator=(const Occupied&) = delete;

 private:
  int* done_ = nullptr;
  cudaStream_t stream_ = nullptr;
};

}  // namespace foretoken::benchmarks
