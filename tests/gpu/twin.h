#pragma once
// An operator on the GPU beside its twin on the CPU: the same inputs, outputs that are poisoned first, and a
// comparison that fails on NaN.

#include <cstring>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "runtime/arena.h"
#include "runtime/device.h"
#include "runtime/operators/dispatch.h"
#include "runtime/operators/elementwise.h"
#include "tests/support/numeric.h"

namespace foretoken::testing {

/// The same tensor twice; on the CPU bf16 is held as f32.
struct Twin {
  Tensor cpu, gpu;
};

class TwinBench {
 public:
  /// Activations and weights are `dtype` on the GPU.
  explicit TwinBench(DType dtype, bool deterministic = false)
      : dtype_(dtype), gpu_({.kind = DeviceKind::cuda, .deterministic = deterministic}) {}

  Stream& cpu() { return cpu_; }
  Stream& gpu() { return gpu_.stream(); }
  DType dtype() const { return dtype_; }
  DType statistics() const { return statistics_dtype(dtype_); }

  /// Normal numbers, rounded to the dtype.
  Twin normal(const std::string& name, const Shape& shape, double std = 1.0) {
    return normal(name, shape, dtype_, std);
  }
  Twin normal(const std::string& name, const Shape& shape, DType dtype, double std) {
    const Twin twin = make(shape, dtype);
    fill_normal(twin.cpu, name, std);
    if (dtype == DType::bf16)
      for (float& value : twin.cpu.span<float>()) value = static_cast<float>(BFloat16(value));
    upload(twin);
    return twin;
  }
  Twin poisoned(const Shape& shape) { return poisoned(shape, dtype_); }
  Twin poisoned(const Shape& shape, DType dtype) {
    const Twin twin = make(shape, dtype);
    std::memset(twin.cpu.data, 0xff, twin.cpu.bytes());
    upload_bytes(twin, 0xff);
    return twin;
  }
  Twin zeros(const Shape& shape, DType dtype) { return make(shape, dtype); }
  Twin integers(const Shape& shape, const std::vector<std::int32_t>& values) {
    const Twin twin = make(shape, DType::i32);
    std::copy(values.begin(), values.end(), twin.cpu.as<std::int32_t>());
    upload(twin);
    return twin;
  }

  double error(const Twin& twin) { return relative_error(download(twin), twin.cpu); }

  /// The GPU's tensor on the host, bf16 as f32.
  Tensor download(const Twin& twin) {
    const Tensor raw = host_.tensor(twin.gpu.dtype, twin.gpu.shape);
    copy(gpu(), twin.gpu, raw);
    gpu().synchronize();
    if (raw.dtype != DType::bf16) return raw;
    const Tensor wide = host_.tensor(DType::f32, raw.shape);
    convert(cpu_, raw, wide);
    return wide;
  }
  /// After twin.cpu was changed.
  void upload(const Twin& twin) {
    Tensor from = twin.cpu;
    if (twin.gpu.dtype == DType::bf16) {
      from = host_.tensor(DType::bf16, twin.cpu.shape);
      convert(cpu_, twin.cpu, from);
    }
    copy(gpu(), from, twin.gpu);
    gpu().synchronize();
  }

 private:
  Twin make(const Shape& shape, DType dtype) {
    return {host_.tensor(dtype == DType::bf16 ? DType::f32 : dtype, shape), device_.tensor(dtype, shape)};
  }
  void upload_bytes(const Twin& twin, int byte) {
    const Tensor bytes = host_.tensor(twin.gpu.dtype, twin.gpu.shape);
    std::memset(bytes.data, byte, bytes.bytes());
    copy(gpu(), bytes, twin.gpu);
    gpu().synchronize();
  }

  DType dtype_;
  TestStream cpu_{4};
  Device gpu_;
  Arena host_{DeviceKind::cpu}, device_{DeviceKind::cuda};
};

/// What rounding of the activations' dtype allows of an operator whose sums are taken in fp32.
inline double tolerance(DType dtype) {
  return dtype == DType::bf16 ? 6e-3 : 1e-5;
}

}  // namespace foretoken::testing
