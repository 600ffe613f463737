#include "runtime/host/nvml.h"

#include <array>
#include <dlfcn.h>

#include <fmt/format.h>

namespace foretoken {

namespace {

// Types and values of NVML's API, from NVIDIA's reference manual of the library. They are part of its stable
// binary interface.
using Result = int;
using DeviceHandle = void*;
constexpr Result success = 0;
constexpr int temperature_of_gpu = 0;
constexpr int clock_of_multiprocessors = 1, clock_of_memory = 2;
constexpr int corrected = 0, uncorrected = 1, since_driver_load = 0;

struct Reason {
  unsigned long long bit;
  const char* name;
};
constexpr std::array reasons{Reason{0x2, "application clocks setting"},
                             Reason{0x4, "power cap"},
                             Reason{0x8, "hardware slowdown"},
                             Reason{0x10, "sync boost"},
                             Reason{0x20, "temperature"},
                             Reason{0x40, "hardware slowdown for temperature"},
                             Reason{0x80, "hardware slowdown by the power supply"}};

}  // namespace

struct Nvml::Library {
  void* handle = nullptr;
  Result (*init)() = nullptr;
  Result (*shutdown)() = nullptr;
  const char* (*error_string)(Result) = nullptr;
  Result (*driver_version)(char*, unsigned) = nullptr;
  Result (*count)(unsigned*) = nullptr;
  Result (*by_address)(const char*, DeviceHandle*) = nullptr;
  Result (*ecc_mode)(DeviceHandle, int*, int*) = nullptr;
  Result (*ecc_errors)(DeviceHandle, int, int, unsigned long long*) = nullptr;
  Result (*remapped_rows)(DeviceHandle, unsigned*, unsigned*, unsigned*, unsigned*) = nullptr;
  Result (*clock)(DeviceHandle, int, unsigned*) = nullptr;
  Result (*highest_clock)(DeviceHandle, int, unsigned*) = nullptr;
  Result (*power)(DeviceHandle, unsigned*) = nullptr;
  Result (*power_limit)(DeviceHandle, unsigned*) = nullptr;
  Result (*default_power_limit)(DeviceHandle, unsigned*) = nullptr;
  Result (*throttle_reasons)(DeviceHandle, unsigned long long*) = nullptr;
  Result (*temperature)(DeviceHandle, int, unsigned*) = nullptr;

  ~Library() {
    if (handle != nullptr) dlclose(handle);
  }

  template <class Function>
  void find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(handle, name));
  }

  /// Returns an error message; empty if the library works. A function that an old driver lacks stays null.
  std::string load() {
    handle = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return "libnvidia-ml.so.1 is not on this machine";
    find(init, "nvmlInit_v2");
    find(shutdown, "nvmlShutdown");
    find(error_string, "nvmlErrorString");
    find(driver_version, "nvmlSystemGetDriverVersion");
    find(count, "nvmlDeviceGetCount_v2");
    find(by_address, "nvmlDeviceGetHandleByPciBusId_v2");
    find(ecc_mode, "nvmlDeviceGetEccMode");
    find(ecc_errors, "nvmlDeviceGetTotalEccErrors");
    find(remapped_rows, "nvmlDeviceGetRemappedRows");
    find(clock, "nvmlDeviceGetClockInfo");
    find(highest_clock, "nvmlDeviceGetMaxClockInfo");
    find(power, "nvmlDeviceGetPowerUsage");
    find(power_limit, "nvmlDeviceGetPowerManagementLimit");
    find(default_power_limit, "nvmlDeviceGetPowerManagementDefaultLimit");
    find(throttle_reasons, "nvmlDeviceGetCurrentClocksThrottleReasons");
    find(temperature, "nvmlDeviceGetTemperature");
    if (init == nullptr || shutdown == nullptr || error_string == nullptr || by_address == nullptr)
      return "libnvidia-ml.so.1 lacks functions of NVML";
    if (const Result result = init(); result != success) {
      init = nullptr;
      return fmt::format("libnvidia-ml.so.1 does not start: {}", error_string(result));
    }
    return "";
  }
};

Nvml::Nvml() : library_(std::make_unique<Library>()) {
  problem_ = library_->load();
}

Nvml::~Nvml() {
  if (problem_.empty()) library_->shutdown();
}

std::string Nvml::driver_version() const {
  std::array<char, 96> text{};
  if (!problem_.empty() || library_->driver_version == nullptr ||
      library_->driver_version(text.data(), text.size() - 1) != success)
    return "";
  return text.data();
}

int Nvml::gpus() const {
  unsigned count = 0;
  if (!problem_.empty() || library_->count == nullptr || library_->count(&count) != success) return 0;
  return static_cast<int>(count);
}

std::optional<GpuState> Nvml::state(const std::string& pci_address) const {
  if (!problem_.empty()) return std::nullopt;
  const Library& nvml = *library_;
  DeviceHandle gpu = nullptr;
  if (nvml.by_address(pci_address.c_str(), &gpu) != success) return std::nullopt;
  GpuState state;
  /// Sets `value` to what a function of NVML returns in its last argument.
  const auto read = [&](auto function, auto& value, double scale, auto... arguments) {
    unsigned number = 0;
    if (function == nullptr || function(gpu, arguments..., &number) != success) return;
    using Value = typename std::remove_reference_t<decltype(value)>::value_type;
    value = static_cast<Value>(number * scale);
  };
  const auto count_errors = [&](int kind, std::optional<std::int64_t>& value) {
    unsigned long long number = 0;
    if (nvml.ecc_errors != nullptr && nvml.ecc_errors(gpu, kind, since_driver_load, &number) == success)
      value = static_cast<std::int64_t>(number);
  };
  int current = 0, pending_mode = 0;
  if (nvml.ecc_mode != nullptr && nvml.ecc_mode(gpu, &current, &pending_mode) == success)
    state.ecc = current != 0;
  count_errors(corrected, state.corrected_errors);
  count_errors(uncorrected, state.uncorrected_errors);
  unsigned after_corrected = 0, after_uncorrected = 0, pending = 0, failed = 0;
  if (nvml.remapped_rows != nullptr &&
      nvml.remapped_rows(gpu, &after_corrected, &after_uncorrected, &pending, &failed) == success) {
    state.remapping_pending = pending != 0;
    state.remapping_failed = failed != 0;
  }
  read(nvml.clock, state.clock, 1, clock_of_multiprocessors);
  read(nvml.highest_clock, state.highest_clock, 1, clock_of_multiprocessors);
  read(nvml.clock, state.memory_clock, 1, clock_of_memory);
  read(nvml.highest_clock, state.highest_memory_clock, 1, clock_of_memory);
  read(nvml.power, state.power, 1e-3);  // NVML's unit is a milliwatt
  read(nvml.power_limit, state.power_limit, 1e-3);
  read(nvml.default_power_limit, state.default_power_limit, 1e-3);
  read(nvml.temperature, state.temperature, 1, temperature_of_gpu);
  unsigned long long bits = 0;
  if (nvml.throttle_reasons != nullptr && nvml.throttle_reasons(gpu, &bits) == success)
    for (const Reason& reason : reasons)
      if ((bits & reason.bit) != 0) state.throttle_reasons.emplace_back(reason.name);
  return state;
}

}  // namespace foretoken
