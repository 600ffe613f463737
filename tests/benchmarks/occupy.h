#pragma once
// Multiprocessors that are taken, as by receives that wait for their messages.

#include <cuda_runtime_api.h>

namespace foretoken::benchmarks {

/// While it lives, so many blocks wait on the GPU, each on a multiprocessor of its own.
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
