#include "runtime/device.h"

#include "runtime/error.h"

#if FORETOKEN_WITH_CUDA
#include "runtime/cuda/context.h"
#else
// Never instantiated in this build; unique_ptr needs a complete type.
class foretoken::cuda::Context {};
#endif

namespace foretoken {

#if FORETOKEN_WITH_CUDA

int Device::gpus() {
  return cuda::device_count();
}

Device::Device(const Options& options) : threads_(options.threads) {
  if (options.kind == DeviceKind::cpu) {
    stream_ = std::make_unique<Stream>(threads_);
    return;
  }
  if (options.gpu >= gpus())
    throw UsageError("device: GPU {} requested, but this process sees {}", options.gpu, gpus());
  cuda_ = std::make_unique<cuda::Context>(
      cuda::Context::Options{.device = options.gpu, .deterministic = options.deterministic});
  stream_ = std::make_unique<Stream>(threads_, *cuda_);
}

std::string Device::name() const {
  return cuda_ ? cuda_->name() : "cpu";
}

std::string Device::compute_capability() const {
  return cuda_ ? cuda_->compute_capability() : "";
}

std::string Device::pci_address() const {
  return cuda_ ? cuda_->pci_address() : "";
}

std::string Device::cuda_version() {
  return cuda::runtime_version();
}

std::size_t Device::memory_in_use() const {
  return cuda_ ? cuda::Context::memory_in_use() : 0;
}

#else

int Device::gpus() {
  return 0;
}

Device::Device(const Options& options) : threads_(options.threads) {
  if (options.kind != DeviceKind::cpu)
    throw UsageError("device: GPU requested, but this program was built without CUDA");
  stream_ = std::make_unique<Stream>(threads_);
}

std::string Device::name() const {
  return "cpu";
}

std::string Device::compute_capability() const {
  return "";
}

std::string Device::pci_address() const {
  return "";
}

std::string Device::cuda_version() {
  return "";
}

std::size_t Device::memory_in_use() const {
  return 0;
}

#endif

Device::~Device() = default;

}  // namespace foretoken
