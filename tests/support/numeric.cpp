#include "tests/support/numeric.h"

#include <cmath>
#include <limits>

#include <fmt/format.h>

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

std::string mismatch(const Tensor& actual, const Tensor& expected, double relative, double absolute) {
  if (actual.elements() != expected.elements())
    return fmt::format("{} elements, expected {}", actual.elements(), expected.elements());
  std::int64_t wrong = 0, first = -1;
  for (std::int64_t i = 0; i < actual.elements(); ++i) {
    const double a = element(actual, i), e = element(expected, i);
    if (std::abs(a - e) <= absolute + relative * std::abs(e)) continue;
    if (wrong++ == 0) first = i;
  }
  if (wrong == 0) return {};
  return fmt::format("element {}: {}, expected {} ({} of {} differ)", first, element(actual, first),
                     element(expected, first), wrong, actual.elements());
}

double relative_error(const Tensor& actual, const Tensor& expected) {
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
