#pragma once
// The state of a machine's NVIDIA GPUs, from the driver's management library (NVML), which is found at run
// time: the program needs it neither to build nor to start.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace foretoken {

/// What NVML reports of one GPU. A value that the GPU does not support is empty.
struct GpuState {
  std::optional<bool> ecc;                         // error correction is on
  std::optional<std::int64_t> corrected_errors;    // since the driver was loaded
  std::optional<std::int64_t> uncorrected_errors;  // since the driver was loaded
  std::optional<bool> remapping_pending;           // a damaged row of memory is replaced at the next reset
  std::optional<bool> remapping_failed;            // no spare rows are left
  std::optional<int> clock, highest_clock;         // of the multiprocessors, MHz
  std::optional<int> memory_clock, highest_memory_clock;          // MHz
  std::optional<double> power, power_limit, default_power_limit;  // watts
  std::optional<int> temperature;                                 // degrees Celsius
  std::vector<std::string> throttle_reasons;                      // why the clock is lowered: "power cap"
};

class Nvml {
 public:
  /// Loads and starts the library. If that fails, problem() says why.
  Nvml();
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  /// "libnvidia-ml.so.1 is not on this machine"; empty if the library works.
  const std::string& problem() const { return problem_; }
  /// "550.54.15"; empty without the library.
  std::string driver_version() const;
  /// Number of GPUs of the machine, whether this process sees them or not; 0 without the library.
  int gpus() const;
  /// `pci_address` as Device::pci_address() returns it. Empty if the library does not know the GPU.
  std::optional<GpuState> state(const std::string& pci_address) const;

 private:
  struct Library;
  std::unique_ptr<Library> library_;
  std::string problem_;
};

}  // namespace foretoken
