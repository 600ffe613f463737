#include "tests/gpu/twin.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/operators/products/linear.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/operators/rowwise/rope.h"
#include "tests/support/catch.h"

namespace foretoken::testing {

Twin TwinBench::normal(const std::string& name, const Shape& shape, DType dtype, double std) {
  const Twin twin = make(shape, dtype);
  fill_normal(twin.cpu, name, std);
  if (dtype == DType::bf16)
    for (float& value : twin.cpu.span<float>()) value = static_cast<float>(BFloat16(value));
  upload(twin);
  return twin;
}

Twin TwinBench::poisoned(const Shape& shape, DType dtype) {
  const Twin twin = make(shape, dtype);
  std::memset(twin.cpu.data, 0xff, twin.cpu.bytes());
  const Tensor bytes = host_.tensor(twin.gpu.dtype, twin.gpu.shape);
  std::memset(bytes.data, 0xff, bytes.bytes());
  copy(gpu(), bytes, twin.gpu);
  gpu().synchronize();
  return twin;
}

Twin TwinBench::integers(const Shape& shape, const std::vector<std::int32_t>& values) {
  const Twin twin = make(shape, DType::i32);
  std::copy(values.begin(), values.end(), twin.cpu.as<std::int32_t>());
  upload(twin);
  return twin;
}

std::pair<Twin, Twin> TwinBench::rope_tables(std::int64_t positions, std::int64_t size, double rope_theta) {
  const Twin cos = zeros({positions, size / 2}, statistics()),
             sin = zeros({positions, size / 2}, statistics());
  rope_table(cos.cpu, sin.cpu, rope_theta);
  upload(cos);
  upload(sin);
  return {cos, sin};
}

Tensor TwinBench::download(const Twin& twin) {
  const Tensor raw = host_.tensor(twin.gpu.dtype, twin.gpu.shape);
  copy(gpu(), twin.gpu, raw);
  gpu().synchronize();
  if (raw.dtype != DType::bf16) return raw;
  const Tensor wide = host_.tensor(DType::f32, raw.shape);
  convert(cpu_, raw, wide);
  return wide;
}

void TwinBench::upload(const Twin& twin) {
  Tensor from = twin.cpu;
  if (twin.gpu.dtype == DType::bf16) {
    from = host_.tensor(DType::bf16, twin.cpu.shape);
    convert(cpu_, twin.cpu, from);
  }
  copy(gpu(), from, twin.gpu);
  gpu().synchronize();
}

void TwinBench::copy_to_cpu(const Twin& twin) {
  const Tensor found = download(twin);
  std::memcpy(twin.cpu.data, found.data, found.bytes());
}

Tensor TwinBench::absolutes(const Tensor& x) {
  const Tensor result = magnitudes(x.shape);
  std::transform(x.as<float>(), x.as<float>() + x.elements(), result.as<float>(),
                 [](float value) { return std::abs(value); });
  return result;
}

Tensor TwinBench::squares(const Tensor& x) {
  const Tensor result = magnitudes(x.shape);
  std::transform(x.as<float>(), x.as<float>() + x.elements(), result.as<float>(),
                 [](float value) { return value * value; });
  return result;
}

Tensor TwinBench::absolute_products(const Tensor& x, const Tensor& weight) {
  const std::int64_t i = weight.shape[1];
  const Tensor result = magnitudes({x.elements() / i, weight.shape[0]});
  linear_forward(cpu_, {.x = absolutes(x), .weight = absolutes(weight), .out = result});
  return result;
}

Tensor TwinBench::root_square_products(const Tensor& x, const Tensor& weight) {
  const std::int64_t i = weight.shape[1];
  const Tensor result = magnitudes({x.elements() / i, weight.shape[0]});
  linear_forward(cpu_, {.x = squares(x), .weight = squares(weight), .out = result});
  for (float& value : result.span<float>()) value = std::sqrt(value);
  return result;
}

Twin TwinBench::make(const Shape& shape, DType dtype) {
  return {host_.tensor(dtype == DType::bf16 ? DType::f32 : dtype, shape), device_.tensor(dtype, shape)};
}

DType any_dtype() {
  return GENERATE(DType::f32, DType::bf16);
}

}  // namespace foretoken::testing
