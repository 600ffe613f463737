#pragma once
// Makes both ends of a link start a message at the same time. While NCCL's kernel for a message waits for the
// other end, it occupies multiprocessors, and a large product that lacks some of them for its last blocks
// takes up to twice as long. So each end's stream first writes a counter in host memory that both processes
// map, and then waits until the other end has written its counter. This wait occupies no multiprocessor.

#include <cstdint>
#include <memory>
#include <string>

#include <cuda_runtime_api.h>

#include "parallel/comm/communicator.h"

namespace foretoken::cuda {

class Handshake {
 public:
  /// Both ends call it, exactly one with `offers`, which creates the shared memory. Returns nullptr on both
  /// ends if they are not on one machine or cannot share memory.
  static std::unique_ptr<Handshake> connect(Communicator& host, int peer, int tag, bool offers);
  ~Handshake();
  Handshake(const Handshake&) = delete;
  Handshake& operator=(const Handshake&) = delete;

  /// Both ends call it before each message. Work that is enqueued afterwards starts when both streams have
  /// reached this point.
  void enqueue(cudaStream_t stream);

 private:
  Handshake() = default;
  /// Maps shared memory of this name; returns false if it does not exist or the GPU cannot access it.
  bool map(const std::string& name, bool create);

  void* memory_ = nullptr;  // two cache lines, each starting with the counter of one end
  void* own_ = nullptr;     // device addresses of the counters
  void* other_ = nullptr;
  std::uint32_t messages_ = 0;
};

}  // namespace foretoken::cuda
