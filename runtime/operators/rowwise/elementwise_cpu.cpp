#include <algorithm>
#include <cstring>

#include "runtime/bfloat16.h"
#include "runtime/error.h"
#include "runtime/operators/dispatch.h"
#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken::cpu {

namespace {

constexpr std::int64_t grain = 1 << 15;

}  // namespace

void set_zero(Stream&, const Tensor& out) {
  std::memset(out.data, 0, out.bytes());
}

void fill(Stream&, const Tensor& out, double value) {
  with_floating("fill", out.dtype,
                [&]<class T>() { std::fill_n(out.as<T>(), out.elements(), static_cast<T>(value)); });
}

void copy(Stream&, const Tensor& x, const Tensor& out) {
  std::memcpy(out.data, x.data, x.bytes());
}

void convert(Stream& stream, const Tensor& x, const Tensor& out) {
  const auto elements = [&]<class From, class To>(const From* from, To* to) {
    stream.threads().parallel_for(x.elements(), grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) to[i] = static_cast<To>(static_cast<float>(from[i]));
    });
  };
  if (x.dtype == out.dtype) return cpu::copy(stream, x, out);
  if (x.dtype == DType::f32 && out.dtype == DType::bf16) return elements(x.as<float>(), out.as<BFloat16>());
  if (x.dtype == DType::bf16 && out.dtype == DType::f32) return elements(x.as<BFloat16>(), out.as<float>());
  throw DefectError("convert: from {} to {} on the CPU", name_of(x.dtype), name_of(out.dtype));
}

void add(Stream& stream, const Tensor& x, const Tensor& out) {
  with_floating("add", x.dtype, [&]<class T>() {
    const T* in = x.as<T>();
    T* sum = out.as<T>();
    stream.threads().parallel_for(x.elements(), grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) sum[i] += in[i];
    });
  });
}

}  // namespace foretoken::cpu
