#pragma once
// How an operator's CPU version is called for the dtype it was given.

#include "runtime/tensor.h"

namespace foretoken {

/// Calls function.template operator()<T>() with the C++ type of a floating dtype. CPU operators compute in
/// f32, and in f64 where a test differentiates them numerically.
template <class Function>
decltype(auto) with_floating(const char* who, DType dtype, Function&& function) {
  switch (dtype) {
    case DType::f32:
      return function.template operator()<float>();
    case DType::f64:
      return function.template operator()<double>();
    default:
      throw DefectError("{}: dtype {} on the CPU, f32 or f64 expected", who, name_of(dtype));
  }
}

}  // namespace foretoken
