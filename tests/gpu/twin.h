#pragma once
// Compares an operator on the GPU with the same operator on the CPU. Inputs are equal, outputs are filled
// with NaN first, and every element has a bound that is derived from the dtypes and the lengths of the sums.
// If an operator reads the result of another one, both devices read the GPU's result (copy_to_cpu), so that a
// bound covers the errors of one operator only.

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

  /// Describes where the GPU's tensor differs from the CPU's by more than the bound; empty if nowhere.
  std::string difference(const Twin& twin, const Bound& bound = {}) {
    return mismatch(download(twin), twin.cpu, bound);
  }

  /// Copies the GPU's tensor to the host, bf16 as f32.
  Tensor download(const Twin& twin);
  /// Copies twin.cpu to the GPU.
  void upload(const Twin& twin);
  /// Replaces the CPU's values by the GPU's.
  void copy_to_cpu(const Twin& twin);

  /// Return |x| or x² of every element, on the CPU. An operator of products and sums that is applied to them
  /// returns the Σ|term| or Σ term² that a bound needs.
  Tensor absolutes(const Tensor& x);
  Tensor squares(const Tensor& x);
  /// Σ|xᵢwᵢ| and √Σ(xᵢwᵢ)² of every element of x · Wᵀ.
  Tensor absolute_products(const Tensor& x, const Tensor& weight);
  Tensor root_square_products(const Tensor& x, const Tensor& weight);
  /// A tensor of zeros on the CPU.
  Tensor magnitudes(const Shape& shape) { return host_.tensor(DType::f32, shape); }

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

/// Relative error of a result that is computed by a few f32 operations and stored in the dtype.
inline double stored(DType dtype) {
  return (dtype == DType::bf16 ? unit_roundoff(dtype) : 0) + 8 * unit_roundoff(DType::f32);
}

/// Relative error of a function of exp, such as a sigmoid, in f32. __expf has an error of 2 + 1.17·|x| ulp
/// (CUDA C++ Programming Guide, "Intrinsic Functions"), which is 20 ulp for |x| < 15, and rcp.approx an error
/// of 1 ulp. An ulp is 2u.
inline constexpr double exp_roundoff = 48 * 0x1p-24;

}  // namespace foretoken::testing
