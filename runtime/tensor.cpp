#include "runtime/tensor.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "runtime/error.h"

namespace foretoken {

std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
    case DType::u32:
      return 4;
    case DType::bf16:
    case DType::u16:
      return 2;
    case DType::u8:
    case DType::f8e4m3:
    case DType::f8e5m2:
      return 1;
  }
  throw DefectError("dtype {} is unknown", static_cast<int>(dtype));
}

const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::f64:
      return "f64";
    case DType::bf16:
      return "bf16";
    case DType::i32:
      return "i32";
    case DType::i64:
      return "i64";
    case DType::u8:
      return "u8";
    case DType::u16:
      return "u16";
    case DType::u32:
      return "u32";
    case DType::f8e4m3:
      return "f8e4m3";
    case DType::f8e5m2:
      return "f8e5m2";
  }
  return "unknown";
}

Shape::Shape(std::initializer_list<std::int64_t> dims)
    : Shape(std::span<const std::int64_t>(dims.begin(), dims.size())) {}

Shape::Shape(std::span<const std::int64_t> dims) : rank_(static_cast<int>(dims.size())) {
  if (dims.size() > max_rank) throw DefectError("shape: {} dims, at most {} are held", dims.size(), max_rank);
  for (std::int64_t dim : dims)
    if (dim < 0) throw DefectError("shape: dim {} is negative", dim);
  std::copy(dims.begin(), dims.end(), dims_.begin());
}

std::int64_t Shape::elements() const {
  std::int64_t product = 1;
  for (std::int64_t dim : dims()) product *= dim;
  return product;
}

std::string to_string(const Shape& shape) {
  return fmt::format("[{}]", fmt::join(shape.dims(), ", "));
}

Tensor Tensor::view(const Shape& other) const {
  if (other.elements() != elements())
    throw DefectError("view: {} has {} elements, {} has {}", to_string(shape), elements(), to_string(other),
                      other.elements());
  return {data, dtype, device, other};
}

Tensor Tensor::rows(std::int64_t begin, std::int64_t count) const {
  if (shape.rank() == 0 || begin < 0 || count < 0 || begin + count > shape[0])
    throw DefectError("rows [{}, {}) of a tensor {}", begin, begin + count, to_string(shape));
  std::array<std::int64_t, Shape::max_rank> dims{};
  std::copy(shape.dims().begin(), shape.dims().end(), dims.begin());
  const std::int64_t row = shape[0] == 0 ? 0 : elements() / shape[0];
  dims[0] = count;
  return {static_cast<std::byte*>(data) + static_cast<std::size_t>(begin * row) * size_of(dtype), dtype,
          device, Shape(std::span<const std::int64_t>(dims.data(), static_cast<std::size_t>(shape.rank())))};
}

Tensor Tensor::flat(std::int64_t begin, std::int64_t count) const {
  return view({elements()}).rows(begin, count);
}

void Tensor::throw_wrong_dtype(DType asked_for) const {
  throw DefectError("tensor {} has dtype {}, expected {}", to_string(shape), name_of(dtype),
                    name_of(asked_for));
}

Tensor tensor_over(void* elements, std::size_t count, DType dtype, const Shape& shape) {
  if (shape.elements() != static_cast<std::int64_t>(count))
    throw DefectError("tensor: shape {} needs {} elements, but there are {}", to_string(shape),
                      shape.elements(), count);
  return {elements, dtype, DeviceKind::cpu, shape};
}

}  // namespace foretoken
