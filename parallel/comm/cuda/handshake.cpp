#include "parallel/comm/cuda/handshake.h"

#include <array>
#include <fcntl.h>
#include <random>
#include <span>
#include <sys/mman.h>
#include <unistd.h>

#include <fmt/format.h>

#include "runtime/cuda/driver.h"
#include "runtime/cuda/handle.h"

namespace foretoken::cuda {

namespace {

constexpr std::size_t line = 128, mapped = 4096;

/// "/foretoken-5f0c…": 96 random bits, so names do not collide.
std::string random_name() {
  std::random_device random;
  return fmt::format("/foretoken-{:08x}{:08x}{:08x}", random(), random(), random());
}

using Name = std::array<std::uint8_t, 64>;  // padded with zeros; empty if no memory is offered

template <std::size_t size>
Tensor bytes_of(std::array<std::uint8_t, size>& bytes) {
  return tensor_over(std::span<std::uint8_t>(bytes), {static_cast<std::int64_t>(size)});
}

}  // namespace

std::unique_ptr<Handshake> Handshake::connect(Communicator& host, int peer, int tag, bool offers) {
  std::unique_ptr<Handshake> handshake(new Handshake);
  Name bytes{};
  std::array<std::uint8_t, 1> accepted{};
  if (offers) {
    const std::string name = random_name();
    if (handshake->map(name, true)) std::copy(name.begin(), name.end(), bytes.begin());
    host.send(bytes_of(bytes), peer, tag);
    host.receive(bytes_of(accepted), peer, tag);
    shm_unlink(name.c_str());
  } else {
    host.receive(bytes_of(bytes), peer, tag);
    bytes.back() = 0;
    accepted[0] = bytes[0] != 0 && handshake->map(reinterpret_cast<const char*>(bytes.data()), false);
    std::swap(handshake->own_, handshake->other_);
    host.send(bytes_of(accepted), peer, tag);
  }
  if (accepted[0] == 0) return nullptr;
  return handshake;
}

bool Handshake::map(const std::string& name, bool create) {
  const int file = shm_open(name.c_str(), O_RDWR | (create ? O_CREAT | O_EXCL : 0), 0600);
  if (file < 0) return false;
  const bool sized = !create || ftruncate(file, mapped) == 0;
  void* memory = sized ? mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
  close(file);
  if (memory == MAP_FAILED) return false;
  void* device = nullptr;
  if (cudaHostRegister(memory, mapped, cudaHostRegisterMapped) != cudaSuccess ||
      cudaHostGetDevicePointer(&device, memory, 0) != cudaSuccess) {
    cudaGetLastError();
    munmap(memory, mapped);
    return false;
  }
  memory_ = memory;
  own_ = device;
  other_ = static_cast<std::byte*>(device) + line;
  return true;
}

Handshake::~Handshake() {
  if (memory_ == nullptr || gpu_abandoned) return;
  cudaHostUnregister(memory_);
  munmap(memory_, mapped);
}

void Handshake::enqueue(cudaStream_t stream) {
  static const auto write = driver_function<PFN_cuStreamWriteValue32_v11070>("cuStreamWriteValue32");
  static const auto wait = driver_function<PFN_cuStreamWaitValue32_v11070>("cuStreamWaitValue32");
  ++messages_;
  const auto address = [](void* word) { return reinterpret_cast<CUdeviceptr>(word); };
  if (write(stream, address(own_), messages_, CU_STREAM_WRITE_VALUE_DEFAULT) != CUDA_SUCCESS ||
      wait(stream, address(other_), messages_, CU_STREAM_WAIT_VALUE_GEQ) != CUDA_SUCCESS)
    check(cudaErrorUnknown, "handshake");
}

}  // namespace foretoken::cuda
