#include "runtime/staging.h"

#include <algorithm>
#include <cstring>

#if FORETOKEN_WITH_CUDA
#include "runtime/cuda/handle.h"
#include "runtime/cuda/memory.h"
#endif

namespace foretoken {

namespace {

constexpr std::size_t line = 64;

std::size_t padded(const Tensor& tensor) {
  return (tensor.bytes() + line - 1) / line * line;
}

bool on_gpu(const Tensor& tensor) {
  return tensor.device == DeviceKind::cuda;
}

}  // namespace

struct Staging::Room {
  std::byte* memory = nullptr;
  std::size_t bytes = 0;
  bool page_locked = false;

  Room() = default;
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;
  ~Room() { release(); }

  void allocate(std::size_t wanted, bool lock) {
    release();
    page_locked = lock;
#if FORETOKEN_WITH_CUDA
    memory = lock ? static_cast<std::byte*>(cuda::allocate_page_locked(wanted)) : new std::byte[wanted];
#else
    memory = new std::byte[wanted];  // not zeroed
#endif
    bytes = wanted;
  }

  void release() {
#if FORETOKEN_WITH_CUDA
    if (page_locked)
      cuda::free_page_locked(memory);
    else
#endif
      delete[] memory;
    memory = nullptr;
    bytes = 0;
    page_locked = false;
  }
};

Staging::Staging() : room_(std::make_unique<Room>()) {}
Staging::~Staging() = default;

void Staging::reserve(const std::vector<Tensor>& tensors) {
  std::size_t bytes = 0;
  for (const Tensor& tensor : tensors) bytes += padded(tensor);
  const bool lock = std::any_of(tensors.begin(), tensors.end(), on_gpu);
  if (bytes > room_->bytes || (lock && !room_->page_locked)) room_->allocate(bytes, lock);
}

void Staging::take(std::vector<Tensor>& tensors) {
  reserve(tensors);
  std::byte* place = room_->memory;
#if FORETOKEN_WITH_CUDA
  cuda::StreamHandle stream;
  if (room_->page_locked)
    cuda::check(cudaStreamCreateWithFlags(stream.out(), cudaStreamNonBlocking), "staging");
#endif
  for (Tensor& tensor : tensors) {
    const std::size_t bytes = tensor.bytes(), step = padded(tensor);
#if FORETOKEN_WITH_CUDA
    if (on_gpu(tensor))
      cuda::check(cudaMemcpyAsync(place, tensor.data, bytes, cudaMemcpyDeviceToHost, stream.get()),
                  "staging");
    else
#endif
      std::memcpy(place, tensor.data, bytes);
    tensor = {place, tensor.dtype, DeviceKind::cpu, tensor.shape};
    place += step;
  }
#if FORETOKEN_WITH_CUDA
  if (room_->page_locked) cuda::check(cudaStreamSynchronize(stream.get()), "staging");
#endif
}

}  // namespace foretoken
