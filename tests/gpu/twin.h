#pragma once
// Compares an operator on the GPU with the same operator on the CPU: equal inputs, outputs filled with NaN
// first, and a comparison that fails on NaN.

#include <string>
#include <utility>
#include <vector>

#include "runtime/arena.h"
#include "runtime/device.h"
#include "runtime/operators/dispatch.h"
#include "tests/support/numeric.h"

namespace foretoken::testing {

/// The same tensor on both devices; on the CPU bf16 is stored as f32.
struct Twin {
  Tensor cpu, gpu;
};

class TwinBench {
 public:
  /// `dtype` is the dtype of activations and weights on the GPU.
  explicit TwinBench(DType dtype, bool deterministic = false)
      : dtype_(dtype), gpu_({.kind = DeviceKind::cuda, .deterministic = deterministic}) {}

  Stream& cpu() { return cpu_; }
  Stream& gpu() { return gpu_.stream(); }
  DType dtype() const { return dtype_; }
  DType statistics() const { return statistics_dtype(dtype_); }

  /// Normally distributed numbers, rounded to the dtype.
  Twin normal(const std::string& name, const Shape& shape, double std = 1.0) {
    return normal(name, shape, dtype_, std);
  }
  Twin normal(const std::string& name, const Shape& shape, DType dtype, double std);
  Twin poisoned(const Shape& shape) { return poisoned(shape, dtype_); }
  Twin poisoned(const Shape& shape, DType dtype);
  Twin zeros(const Shape& shape, DType dtype) { return make(shape, dtype); }
  Twin integers(const Shape& shape, const std::vector<std::int32_t>& values);
  /// rope_table() for `positions` positions and heads of `size` elements.
  std::pair<Twin, Twin> rope_tables(std::int64_t positions, std::int64_t size, double rope_theta);

  double error(const Twin& twin) { return relative_error(download(twin), twin.cpu); }

  /// Copies the GPU's tensor to the host, bf16 as f32.
  Tensor download(const Twin& twin);
  /// Copies twin.cpu to the GPU.
  void upload(const Twin& twin);

 private:
  Twin make(const Shape& shape, DType dtype);

  DType dtype_;
  TestStream cpu_{4};
  Device gpu_;
  Arena host_{DeviceKind::cpu}, device_{DeviceKind::cuda};
};

/// Runs the operator on both devices. op(on) returns its arguments; `on` is &Twin::cpu or &Twin::gpu.
template <class Op, class Make>
void run(TwinBench& bench, void (*function)(Stream&, const Op&), const Make& op) {
  function(bench.cpu(), op(&Twin::cpu));
  function(bench.gpu(), op(&Twin::gpu));
}

/// A Catch2 generator: each dtype that activations may have on a GPU.
DType any_dtype();

/// The error that rounding to the activations' dtype allows for an operator that sums in fp32.
inline double tolerance(DType dtype) {
  return dtype == DType::bf16 ? 6e-3 : 1e-5;
}

}  // namespace foretoken::testing
