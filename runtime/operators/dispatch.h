#pragma once
// Dispatch of an operator by device and dtype. An operator's common file checks shapes and selects the
// device; its CPU and CUDA files rely on these checks.

#include "runtime/error.h"
#include "runtime/stream.h"

namespace foretoken {

/// The dtype of statistics (1/rms, log-sum-exp) that an operator computes from activations of `dtype`, and of
/// rope's tables.
inline DType statistics_dtype(DType dtype) {
  return dtype == DType::bf16 ? DType::f32 : dtype;
}

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
