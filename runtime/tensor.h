#pragma once
// A tensor view: pointer, dtype, device and shape of the elements. Row-major, dense, non-owning.
//
// Glossary of dims, used by every shape comment of the project:
//   B rows of a microbatch, T tokens of a row, N = B·T, C hidden_size, V vocab_size, L layers,
//   NH query heads, NKV key/value heads, HS head_dim, F intermediate_size, D MTP depths.
// A gradient takes a `d`: dout is the gradient of the loss with respect to out. In the arguments of an
// operator, `=` after a shape marks a tensor that the operator overwrites, `+=` one that it adds to; it reads
// the others.

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "runtime/bfloat16.h"
#include "runtime/float8.h"

namespace foretoken {

enum class DType : std::uint8_t { f32, f64, bf16, i32, i64, u8, u16, u32, f8e4m3, f8e5m2 };

std::size_t size_of(DType dtype);
const char* name_of(DType dtype);

template <class T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::f32;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::f64;
}
template <>
constexpr DType dtype_of<BFloat16>() {
  return DType::bf16;
}
template <>
constexpr DType dtype_of<std::int32_t>() {
  return DType::i32;
}
template <>
constexpr DType dtype_of<std::int64_t>() {
  return DType::i64;
}
template <>
constexpr DType dtype_of<std::uint8_t>() {
  return DType::u8;
}
template <>
constexpr DType dtype_of<std::uint16_t>() {
  return DType::u16;
}
template <>
constexpr DType dtype_of<std::uint32_t>() {
  return DType::u32;
}

template <>
constexpr DType dtype_of<Float8E4M3>() {
  return DType::f8e4m3;
}
template <>
constexpr DType dtype_of<Float8E5M2>() {
  return DType::f8e5m2;
}

enum class DeviceKind : std::uint8_t { cpu, cuda };

/// Up to four dims, outermost first.
class Shape {
 public:
  static constexpr int max_rank = 4;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims);
  explicit Shape(std::span<const std::int64_t> dims);

  int rank() const { return rank_; }
  std::int64_t operator[](int dim) const { return dims_[static_cast<std::size_t>(dim)]; }
  std::int64_t elements() const;
  std::span<const std::int64_t> dims() const { return {dims_.data(), static_cast<std::size_t>(rank_)}; }
  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::array<std::int64_t, max_rank> dims_{};
  int rank_ = 0;
};

/// Example: "[4, 128, 64]".
std::string to_string(const Shape& shape);

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::f32;
  DeviceKind device = DeviceKind::cpu;
  Shape shape;

  bool defined() const { return data != nullptr; }
  /// Whether the data starts at a multiple of 16 bytes, the largest single access of a GPU thread.
  bool is_aligned() const { return reinterpret_cast<std::uintptr_t>(data) % 16 == 0; }
  std::int64_t elements() const { return shape.elements(); }
  std::size_t bytes() const { return static_cast<std::size_t>(elements()) * size_of(dtype); }

  /// The elements as T. Throws DefectError if the dtype differs.
  template <class T>
  T* as() const {
    if (dtype != dtype_of<T>()) throw_wrong_dtype(dtype_of<T>());
    return static_cast<T*>(data);
  }

  template <class T>
  std::span<T> span() const {
    return {as<T>(), static_cast<std::size_t>(elements())};
  }

  /// The same elements in another shape with the same number of elements.
  Tensor view(const Shape& other) const;
  /// Entries [begin, begin + count) of the outermost dim.
  Tensor rows(std::int64_t begin, std::int64_t count) const;
  /// Elements [begin, begin + count) in memory order, as a rank-1 tensor.
  Tensor flat(std::int64_t begin, std::int64_t count) const;

 private:
  [[noreturn]] void throw_wrong_dtype(DType asked_for) const;
};

/// A view of elements in CPU memory that the caller owns. Throws DefectError if `count` differs from the
/// shape's number of elements.
Tensor tensor_over(void* elements, std::size_t count, DType dtype, const Shape& shape);

template <class T>
Tensor tensor_over(std::span<T> elements, const Shape& shape) {
  return tensor_over(elements.data(), elements.size(), dtype_of<T>(), shape);
}

}  // namespace foretoken
