#pragma once
// The device that a rank computes on: the host's cores or one GPU.

#include <cstddef>
#include <memory>
#include <string>

#include "runtime/stream.h"

namespace foretoken {

class Device {
 public:
  struct Options {
    DeviceKind kind = DeviceKind::cpu;
    int threads = 1;             // host threads
    int gpu = 0;                 // index, less than gpus()
    bool deterministic = false;  // for a GPU; the CPU is always deterministic
  };
  /// Throws UsageError if the build or the machine has no such device.
  explicit Device(const Options& options);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  Stream& stream() { return *stream_; }
  /// "cpu" or "NVIDIA H100 80GB HBM3"
  std::string name() const;
  /// "9.0" on an H100; empty on the CPU.
  std::string compute_capability() const;
  /// The GPU's address on the PCI bus, "0000:1b:00.0"; empty on the CPU.
  std::string pci_address() const;
  /// Bytes of the GPU's memory in use, by all processes; 0 on the CPU.
  std::size_t memory_in_use() const;

  /// Number of GPUs visible to this process; 0 in a build without CUDA or on a machine without a driver.
  static int gpus();
  /// "13.0", the version of the CUDA runtime; empty in a build without CUDA.
  static std::string cuda_version();

 private:
  ThreadPool threads_;
  std::unique_ptr<cuda::Context> cuda_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace foretoken
