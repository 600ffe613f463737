#pragma once
// Lets the two ends of a link begin a message at the same time. NCCL's kernel for a message that the other
// end has not come to waits on multiprocessors, and a large product that lacks some of them for its last
// blocks takes up to twice as long. So each end's stream says, in memory of the host that both processes map,
// that it has come to the message, and waits for the other's word, which holds no multiprocessor.

#include <cstdint>
#include <memory>
#include <string>

#include <cuda_runtime_api.h>

#include "parallel/communicator.h"

namespace foretoken::cuda {

class Handshake {
 public:
  /// Both ends call it, one of them with `offers`. Null on both where they are not on one machine or it does
  /// not lend them memory.
  static std::unique_ptr<Handshake> connect(Communicator& host, int peer, int tag, bool offers);
  ~Handshake();
  Handshake(const Handshake&) = delete;
  Handshake& operator=(const Handshake&) = delete;

  /// What is enqueued next begins once both ends have come to it. Both call it for each message.
  void enqueue(cudaStream_t stream);

 private:
  Handshake() = default;
  /// Maps memory of this name; false where there is none, or where the GPU cannot reach it.
  bool map(const std::string& name, bool create);

  void* memory_ = nullptr;  // two lines, the word of either end at the beginning of each
  void* own_ = nullptr;     // as the GPU sees them
  void* other_ = nullptr;
  std::uint32_t messages_ = 0;
};

}  // namespace foretoken::cuda
