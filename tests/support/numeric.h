#pragma once
// Numerical comparisons: a comparison fails on NaN, checks lengths and names the first mismatch.

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "runtime/arena.h"
#include "runtime/stream.h"

namespace foretoken::testing {

/// A stream over one thread, or over the given number of threads.
class TestStream {
 public:
  explicit TestStream(int threads = 1) : pool_(threads), stream_(pool_) {}
  operator Stream&() { return stream_; }  // NOLINT: tests pass it as an operator's stream

 private:
  ThreadPool pool_;
  Stream stream_;
};

/// Fills with normally distributed numbers; `name` is the seed.
void fill_normal(const Tensor& tensor, const std::string& name, double std = 1.0);
/// Fills with NaN, so that an element that an operator omits is detected.
void poison(const Tensor& tensor);

/// |actual − expected| ≤ absolute + relative · |expected| for every element; NaN is never equal. Returns an
/// empty string, or "element 7: 0.5, expected 0.25 (12 of 96 differ)".
std::string mismatch(const Tensor& actual, const Tensor& expected, double relative, double absolute);

/// ‖actual − expected‖ / ‖expected‖, or ‖actual‖ if `expected` is all 0; NaN if either contains a NaN or if
/// the lengths differ.
double relative_error(const Tensor& actual, const Tensor& expected);

/// Central differences of loss() with respect to every element of x (f64, or every `stride`th one) against
/// `gradient`. The step size suits f64. Returns the same texts as mismatch().
std::string gradient_mismatch(const std::function<double()>& loss, const Tensor& x, const Tensor& gradient,
                              std::int64_t stride = 1);

/// Σ aᵢ·bᵢ: turns an operator's output into a loss whose gradient is b.
double dot(const Tensor& a, const Tensor& b);

}  // namespace foretoken::testing
