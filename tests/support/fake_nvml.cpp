// A library with NVML's functions and two GPUs: 0000:1b:00.0, which computes, and 0000:43:00.0, which
// supports little. Signatures and values follow NVIDIA's reference manual of the library.

#include <cstdio>
#include <cstring>

namespace {

constexpr int success = 0, not_supported = 3, not_found = 6;
struct Gpu {
  bool full;
} gpus[] = {{true}, {false}};

int put(void* gpu, unsigned value, unsigned* out) {
  if (!static_cast<Gpu*>(gpu)->full) return not_supported;
  *out = value;
  return success;
}

}  // namespace

extern "C" {

int nvmlInit_v2() {
  return success;
}
int nvmlShutdown() {
  return success;
}
const char* nvmlErrorString(int) {
  return "an error";
}
int nvmlSystemGetDriverVersion(char* text, unsigned length) {
  std::snprintf(text, length, "550.54.15");
  return success;
}
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = 2;
  return success;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char* address, void** gpu) {
  if (std::strcmp(address, "0000:1b:00.0") != 0 && std::strcmp(address, "0000:43:00.0") != 0)
    return not_found;
  *gpu = &gpus[address[5] == '1' ? 0 : 1];
  return success;
}
int nvmlDeviceGetEccMode(void* gpu, int* current, int* pending) {
  *current = *pending = 1;
  return static_cast<Gpu*>(gpu)->full ? success : not_supported;
}
int nvmlDeviceGetTotalEccErrors(void* gpu, int kind, int counter, unsigned long long* count) {
  *count = kind == 0 ? 12 : 2;
  return static_cast<Gpu*>(gpu)->full && counter == 0 ? success : not_supported;
}
int nvmlDeviceGetRemappedRows(void* gpu, unsigned* corrected, unsigned* uncorrected, unsigned* pending,
                              unsigned* failed) {
  *corrected = *uncorrected = *failed = 0;
  *pending = 1;
  return static_cast<Gpu*>(gpu)->full ? success : not_supported;
}
int nvmlDeviceGetClockInfo(void* gpu, int clock, unsigned* value) {
  return put(gpu, clock == 1 ? 1755 : 2619, value);
}
int nvmlDeviceGetMaxClockInfo(void* gpu, int clock, unsigned* value) {
  return put(gpu, clock == 1 ? 1980 : 2619, value);
}
int nvmlDeviceGetPowerUsage(void* gpu, unsigned* value) {
  return put(gpu, 650500, value);
}
int nvmlDeviceGetPowerManagementLimit(void* gpu, unsigned* value) {
  return put(gpu, 600000, value);
}
int nvmlDeviceGetPowerManagementDefaultLimit(void* gpu, unsigned* value) {
  return put(gpu, 700000, value);
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void* gpu, unsigned long long* bits) {
  *bits = static_cast<Gpu*>(gpu)->full ? 0x4 | 0x8 | 0x40 : 0;
  return success;
}
int nvmlDeviceGetTemperature(void* gpu, int sensor, unsigned* value) {
  (void)gpu;
  *value = sensor == 0 ? 71 : 0;
  return success;
}

}  // extern "C"
