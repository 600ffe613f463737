#pragma once
// An operator on the GPU beside its twin on the CPU: the same inputs, outputs that are poisoned first, and a
// comparison that fails on NaN.

#include <string>
#include <utility>
#include <vector>

#include "runtime/arena.h"
#include "runtime/device.h"
#include "runtime/operators/dispatch.h"
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
  Twin normal(const std::string& name, const Shape& shape, DType dtype, double std);
  Twin poisoned(const Shape& shape) { return poisoned(shape, dtype_); }
  Twin poisoned(const Shape& shape, DType dtype);
  Twin zeros(const Shape& shape, DType dtype) { return make(shape, dtype); }
  Twin integers(const Shape& shape, const std::vector<std::int32_t>& values);
  /// rope_table() of so many positions, for heads of that size.
  std::pair<Twin, Twin> rope_tables(std::int64_t positions, std::int64_t size, double rope_theta);

  double error(const Twin& twin) { return relative_error(download(twin), twin.cpu); }

  /// The GPU's tensor on the host, bf16 as f32.
  Tensor download(const Twin& twin);
  /// After twin.cpu was changed.
  void upload(const Twin& twin);

 private:
  Twin make(const Shape& shape, DType dtype);

  DType dtype_;
  TestStream cpu_{4};
  Device gpu_;
  Arena host_{DeviceKind::cpu}, device_{DeviceKind::cuda};
};

/// Runs the operator on both devices; op(on) names its tensors, `on` being &Twin::cpu or &Twin::gpu.
template <class Op, class Make>
void run(TwinBench& bench, void (*function)(Stream&, const Op&), const Make& op) {
  function(bench.cpu(), op(&Twin::cpu));
  function(bench.gpu(), op(&Twin::gpu));
}

/// Each dtype that activations may have on a GPU, in turn: a generator of the test case.
DType any_dtype();

/// What rounding of the activations' dtype allows of an operator whose sums are taken in fp32.
inline double tolerance(DType dtype) {
  return dtype == DType::bf16 ? 6e-3 : 1e-5;
}

}  // namespace foretoken::testing
