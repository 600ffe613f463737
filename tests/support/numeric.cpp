#include "tests/support/numeric.h"

#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "runtime/error.h"
#include "runtime/random.h"

namespace foretoken::testing {

namespace {

double element(const Tensor& tensor, std::int64_t i) {
  return tensor.dtype == DType::f64 ? tensor.as<double>()[i] : static_cast<double>(tensor.as<float>()[i]);
}

void set_element(const Tensor& tensor, std::int64_t i, double value) {
  if (tensor.dtype == DType::f64)
    tensor.as<double>()[i] = value;
  else
    tensor.as<float>()[i] = static_cast<float>(value);
}

/// "7" in a vector, "(2, 7)" in a matrix.
std::string coordinates(const Shape& shape, std::int64_t i) {
  if (shape.rank() <= 1) return fmt::format("{}", i);
  std::string text = ")";
  for (int dim = shape.rank() - 1; dim >= 0; --dim) {
    text = fmt::format("{}{}{}", dim > 0 ? ", " : "(", i % shape[dim], text);
    i /= shape[dim];
  }
  return text;
}

}  // namespace

void fill_normal(const Tensor& tensor, const std::string& name, double std) {
  const CounterRng rng(1, name);
  for (std::int64_t i = 0; i < tensor.elements(); ++i)
    set_element(tensor, i, std * rng.normal(static_cast<std::uint64_t>(i)));
}

void poison(const Tensor& tensor) {
  for (std::int64_t i = 0; i < tensor.elements(); ++i)
    set_element(tensor, i, std::numeric_limits<double>::quiet_NaN());
}

std::string mismatch(const Tensor& actual, const Tensor& expected, const Bound& bound) {
  if (actual.elements() != expected.elements())
    return fmt::format("{} elements, expected {}", actual.elements(), expected.elements());
  for (const Bound::Term& term : bound.terms)
    if (term.magnitude.elements() != expected.elements())
      return fmt::format("{} magnitudes of a bound on {} elements", term.magnitude.elements(),
                         expected.elements());
  const auto allowed = [&](std::int64_t i) {
    double sum = bound.absolute + bound.relative * std::abs(element(expected, i));
    for (const auto& [factor, magnitude] : bound.terms) sum += factor * element(magnitude, i);
    return sum;
  };
  std::int64_t wrong = 0, first = -1;
  for (std::int64_t i = 0; i < actual.elements(); ++i) {
    const double a = element(actual, i), e = element(expected, i);
    const double most = allowed(i);
    if (std::abs(a - e) <= most && std::isfinite(most)) continue;
    if (wrong++ == 0) first = i;
  }
  if (wrong == 0) return {};
  return fmt::format("element {}: {}, expected {} ± {:.3g} ({} of {} differ)",
                     coordinates(expected.shape, first), element(actual, first), element(expected, first),
                     allowed(first), wrong, actual.elements());
}

double unit_roundoff(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 0x1p-53;
    case DType::f32:
      return 0x1p-24;
    case DType::bf16:
      return 0x1p-8;
    case DType::f8e4m3:
      return 0x1p-4;
    case DType::f8e5m2:
      return 0x1p-3;
    default:
      throw DefectError("unit_roundoff: dtype is {}, expected a floating one", name_of(dtype));
  }
}

double sum_roundoff(std::int64_t n, DType dtype) {
  return 8 * std::sqrt(static_cast<double>(n)) * unit_roundoff(dtype);
}

double rounded_terms(DType dtype) {
  return 3 * unit_roundoff(dtype);
}

double relative_distance(const Tensor& actual, const Tensor& expected) {
  if (actual.elements() != expected.elements()) return std::numeric_limits<double>::quiet_NaN();
  double difference = 0, norm = 0;
  for (std::int64_t i = 0; i < expected.elements(); ++i) {
    difference += std::pow(element(actual, i) - element(expected, i), 2);
    norm += std::pow(element(expected, i), 2);
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference + norm);
}

std::string gradient_mismatch(const std::function<double()>& loss, const Tensor& x, const Tensor& gradient,
                              std::int64_t stride) {
  constexpr double step = 1e-5;
  for (std::int64_t i = 0; i < x.elements(); i += stride) {
    const double value = element(x, i);
    set_element(x, i, value + step);
    const double above = loss();
    set_element(x, i, value - step);
    const double below = loss();
    set_element(x, i, value);
    const double expected = (above - below) / (2 * step), actual = element(gradient, i);
    if (!(std::abs(actual - expected) <= 1e-8 + 1e-6 * std::abs(expected)))
      return fmt::format("element {}: gradient {}, finite difference {}", i, actual, expected);
  }
  return {};
}

double dot(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (std::int64_t i = 0; i < a.elements(); ++i) sum += element(a, i) * element(b, i);
  return sum;
}

}  // namespace foretoken::testing
