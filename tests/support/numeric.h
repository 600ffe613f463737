#pragma once
// Numerical comparisons. They fail on NaN, check lengths and name the first mismatch.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

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
/// Fills with NaN, so that a comparison detects elements that an operator does not write.
void poison(const Tensor& tensor);

/// Tolerances of a comparison. The tolerance of an element is
/// relative · |expected| + absolute + Σ factor · magnitude[element], summed over the terms.
struct Bound {
  /// A term of the tolerance. `magnitude` has the shape of the compared tensors. Each of its elements is
  /// Σ|aᵢbᵢ| or √Σ(aᵢbᵢ)², where Σ aᵢbᵢ is the compared element.
  struct Term {
    double factor = 0;
    Tensor magnitude;
  };
  double relative = 0, absolute = 0;
  std::vector<Term> terms = {};
};

/// Compares every element; NaN is never equal. Returns an empty string, or the first mismatch with its
/// coordinates: "element (2, 7): 0.5, expected 0.25 ± 0.001 (12 of 96 differ)".
std::string mismatch(const Tensor& actual, const Tensor& expected, const Bound& bound);
inline std::string mismatch(const Tensor& actual, const Tensor& expected, double relative, double absolute) {
  return mismatch(actual, expected, {.relative = relative, .absolute = absolute});
}

/// The largest relative error of rounding a real number to the nearest number of the dtype: 2^−p for a
/// significand of p bits.
double unit_roundoff(DType dtype);

/// Bounds the difference of two f32 sums of the same n terms in any order, as a factor of Σ|term|. Each of
/// the n additions of a sum adds an error of at most u · Σ|term|, with mean 0 and any distribution: the
/// standard deviation of their sum is at most √(n/3) · u · Σ|term|, and 4√n · u is 6.9 standard deviations
/// for each of the two sums (Higham and Mary, "A new approach to probabilistic rounding error analysis",
/// 2019). Tensor cores add 16 terms at a time and truncate the result: n/16 errors of up to 2u of the partial
/// sum, with the partial sum's sign. For terms of both signs the partial sums stay near √Σ term², so the
/// bound holds up to n = 10⁴.
double sum_roundoff(std::int64_t n, DType dtype = DType::f32);

/// Bounds the error of a sum whose terms are rounded to `dtype`, as a factor of √Σ term². The error of a term
/// is uniform within u · |term| / m for a significand m between 1 and 2. Its standard deviation is 0.42 · u ·
/// |term| if magnitudes are spread over a binade, so 3u is 7 standard deviations of the sum. For few terms 3u
/// exceeds the certain bound, u · Σ|term|.
double rounded_terms(DType dtype);

/// ‖actual − expected‖ / ‖expected‖, or ‖actual‖ if `expected` is all 0; NaN if either contains a NaN or if
/// the lengths differ. It states how far apart two whole results are but does not find a single wrong
/// element; use mismatch() to compare results that must agree.
double relative_distance(const Tensor& actual, const Tensor& expected);

/// Compares `gradient` with central differences of loss() with respect to every element of x, or every
/// `stride`th one. x is f64, and the step size is chosen for f64. Returns the same texts as mismatch().
std::string gradient_mismatch(const std::function<double()>& loss, const Tensor& x, const Tensor& gradient,
                              std::int64_t stride = 1);

/// Σ aᵢ·bᵢ: turns an operator's output into a loss whose gradient is b.
double dot(const Tensor& a, const Tensor& b);

}  // namespace foretoken::testing
