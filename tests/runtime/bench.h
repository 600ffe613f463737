#pragma once
// Fixture for operator tests on the CPU: a stream, and tensors in fp64, which is precise enough for finite
// differences.

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "runtime/arena.h"
#include "tests/support/numeric.h"

namespace foretoken::testing {

struct Bench {
  Arena arena{DeviceKind::cpu};
  TestStream stream{2};

  Tensor normal(const std::string& name, const Shape& shape, double std = 1.0) {
    const Tensor tensor = arena.tensor(DType::f64, shape);
    fill_normal(tensor, name, std);
    return tensor;
  }
  Tensor poisoned(const Shape& shape) {
    const Tensor tensor = arena.tensor(DType::f64, shape);
    poison(tensor);
    return tensor;
  }
  Tensor zeros(const Shape& shape) { return arena.tensor(DType::f64, shape); }
  Tensor integers(const Shape& shape, std::initializer_list<std::int32_t> values) {
    const Tensor tensor = arena.tensor(DType::i32, shape);
    std::copy(values.begin(), values.end(), tensor.as<std::int32_t>());
    return tensor;
  }
};

}  // namespace foretoken::testing
