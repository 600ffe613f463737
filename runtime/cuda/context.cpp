#include "runtime/cuda/context.h"

#include <cstdlib>

#include "runtime/cuda/matmul.h"
#include "runtime/cuda/memory.h"

namespace foretoken::cuda {

int device_count() {
  // Every stream needs its own hardware queue. Streams that share a queue wait for each other: a receive that
  // waits for its peer would block the send that the peer waits for. CUDA reads the variable when it
  // initializes, which cudaGetDeviceCount() triggers.
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();  // no driver, or the driver is too old
    return 0;
  }
  return count;
}

std::string runtime_version() {
  int version = 0;
  check(cudaRuntimeGetVersion(&version), "version");
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

Context::Context(const Options& options) : options_(options) {
  check(cudaSetDevice(options.device), "device");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, options.device), "device");
  name_ = properties.name;
  compute_capability_ = std::to_string(properties.major) + "." + std::to_string(properties.minor);
  multiprocessors_ = properties.multiProcessorCount;
  check(cudaStreamCreateWithFlags(stream_.out(), cudaStreamNonBlocking), "stream");
  check(cudaMalloc(counter_.out(), sizeof(int)), "counter");
  zero_device(counter_.get(), sizeof(int));
  matmul_ = std::make_unique<Matmul>(*this);
}

Context::~Context() = default;

std::string Context::pci_address() const {
  std::string address(32, '\0');
  check(cudaDeviceGetPCIBusId(address.data(), static_cast<int>(address.size()), options_.device),
        "address on the PCI bus");
  return address.c_str();
}

void Context::synchronize() const {
  check(cudaStreamSynchronize(stream_.get()), "stream");
}

std::size_t Context::memory_in_use() {
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "memory");
  return total - free;
}

}  // namespace foretoken::cuda
