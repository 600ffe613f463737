// Quantized matrices and their products, compared with the CPU.

#include "runtime/operators/rowwise/quantize.h"

#include <cstring>
#include <vector>

#include <fmt/format.h>

#include "runtime/operators/products/quantized_product.h"
#include "runtime/operators/rowwise/swiglu.h"
#include "tests/gpu/twin.h"
#include "tests/support/catch.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

/// A quantized matrix on both devices.
struct QuantizedTwin {
  Twin data, scales;
  Scaling scaling;

  QuantizedTensor on(Tensor Twin::*side) const { return {data.*side, scales.*side, scaling}; }
};

QuantizedTwin planned(TwinBench& bench, DType format, std::int64_t rows, std::int64_t columns,
                      Scaling scaling) {
  Arena shapes(DeviceKind::cpu);
  const QuantizedTensor like = plan_quantized(shapes, format, rows, columns, scaling);
  return {bench.poisoned(like.data.shape, format), bench.zeros(like.scales.shape, DType::f32), scaling};
}

/// Describes the first byte that differs between the devices. Returns an empty text if all are equal.
std::string first_difference(TwinBench& bench, const Twin& twin) {
  const Tensor gpu = bench.download(twin);
  const auto* a = static_cast<const std::uint8_t*>(gpu.data);
  const auto* b = static_cast<const std::uint8_t*>(twin.cpu.data);
  for (std::size_t i = 0; i < gpu.bytes(); ++i)
    if (a[i] != b[i]) {
      const auto columns = static_cast<std::size_t>(gpu.shape[gpu.shape.rank() - 1]) * size_of(gpu.dtype);
      return fmt::format("row {}, byte {}: {:02x} on the GPU, {:02x} on the CPU", i / columns, i % columns,
                         a[i], b[i]);
    }
  return "";
}

QuantizedTwin quantized(TwinBench& bench, const Twin& x, DType format, Scaling scaling) {
  const QuantizedTwin out = planned(bench, format, x.cpu.shape[0], x.cpu.shape[1], scaling);
  run(bench, quantize, [&](auto on) { return Quantize{.x = x.*on, .out = out.on(on), .transposed = {}}; });
  return out;
}

}  // namespace

TEST_CASE("a quantized matrix and its transpose have the CPU's bits") {
  TwinBench bench(any_dtype());
  const DType format = GENERATE(DType::f8e4m3, DType::f8e5m2);
  const Scaling scaling = GENERATE(Scaling::tensor, Scaling::vector128, Scaling::block128);
  const auto [rows, columns] = GENERATE(
      table<std::int64_t, std::int64_t>({{16, 16}, {128, 128}, {144, 272}, {384, 640}, {1152, 256}}));
  if (scaling != Scaling::tensor && (rows % 128 != 0 || columns % 128 != 0)) return;
  CAPTURE(name_of(bench.dtype()), name_of(format), static_cast<int>(scaling), rows, columns);
  const Twin x = bench.normal("x", {rows, columns}, 3.0);
  const QuantizedTwin out = planned(bench, format, rows, columns, scaling),
                      transposed = planned(bench, format, columns, rows, scaling);
  run(bench, quantize,
      [&](auto on) { return Quantize{.x = x.*on, .out = out.on(on), .transposed = transposed.on(on)}; });
  CHECK(first_difference(bench, out.data) == "");
  CHECK(first_difference(bench, out.scales) == "");
  CHECK(first_difference(bench, transposed.data) == "");
  CHECK(first_difference(bench, transposed.scales) == "");

  const QuantizedTwin alone = planned(bench, format, columns, rows, scaling);
  run(bench, quantize, [&](auto on) { return Quantize{.x = x.*on, .out = {}, .transposed = alone.on(on)}; });
  CHECK(first_difference(bench, alone.data) == "");
  CHECK(first_difference(bench, alone.scales) == "");
}

TEST_CASE("what SwiGLU computes is quantized to the bits of its stored result") {
  TwinBench bench(any_dtype());
  const Scaling scaling = GENERATE(Scaling::tensor, Scaling::vector128);
  const auto [rows, width] =
      GENERATE(table<std::int64_t, std::int64_t>({{128, 128}, {384, 640}, {144, 272}}));
  if (scaling != Scaling::tensor && (rows % 128 != 0 || width % 128 != 0)) return;
  CAPTURE(name_of(bench.dtype()), static_cast<int>(scaling), rows, width);
  const Twin gate_up = bench.normal("gate_up", {rows, 2 * width}, 3.0),
             dout = bench.normal("dout", {rows, width});
  const Twin out = bench.poisoned({rows, width}), dgate_up = bench.poisoned({rows, 2 * width});
  swiglu_forward(bench.gpu(), {.gate_up = gate_up.gpu, .out = out.gpu});
  swiglu_backward(bench.gpu(),
                  {.dout = dout.gpu, .gate_up = gate_up.gpu, .dgate_up = dgate_up.gpu, .out = {}});

  const auto same = [&](const QuantizeSource& stored, const QuantizeSource& computed, std::int64_t columns) {
    const auto bytes = [&](const QuantizeSource& source) {
      const QuantizedTwin rows_of = planned(bench, DType::f8e4m3, rows, columns, scaling),
                          columns_of = planned(bench, DType::f8e4m3, columns, rows, scaling);
      quantize(bench.gpu(),
               {.x = source, .out = rows_of.on(&Twin::gpu), .transposed = columns_of.on(&Twin::gpu)});
      std::vector<std::uint8_t> all;
      for (const Twin* twin : {&rows_of.data, &rows_of.scales, &columns_of.data, &columns_of.scales}) {
        const Tensor host = bench.download(*twin);
        const auto* data = static_cast<const std::uint8_t*>(host.data);
        all.insert(all.end(), data, data + host.bytes());
      }
      return all;
    };
    return bytes(stored) == bytes(computed);
  };
  CHECK(same(out.gpu, SwigluOutput{gate_up.gpu}, width));
  CHECK(same(dgate_up.gpu, SwigluInputGradient{dout.gpu, gate_up.gpu}, 2 * width));
}

TEST_CASE("a number that is not finite makes its group's scale or its own element not finite") {
  TwinBench bench(DType::bf16);
  const Scaling scaling = GENERATE(Scaling::tensor, Scaling::vector128, Scaling::block128);
  const float bad = GENERATE(std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN());
  CAPTURE(static_cast<int>(scaling), bad);
  const Twin x = bench.normal("x", {256, 256});
  x.cpu.as<float>()[130 * 256 + 5] = bad;
  bench.upload(x);
  const QuantizedTwin a = quantized(bench, x, DType::f8e4m3, scaling);
  CHECK(first_difference(bench, a.data) == "");
  const Twin w = bench.normal("w", {128, 256});
  const QuantizedTwin b =
      quantized(bench, w, DType::f8e4m3, scaling == Scaling::tensor ? scaling : Scaling::vector128);
  const Twin out = bench.poisoned({256, 128}, DType::f32);
  quantized_product(bench.gpu(),
                    {.a = a.on(&Twin::gpu), .b = b.on(&Twin::gpu), .addend = {}, .out = out.gpu});
  const Tensor result = bench.download(out);
  for (std::int64_t o = 0; o < 128; ++o) CHECK(std::isnan(result.as<float>()[130 * 128 + o]));
}

TEST_CASE("quantized products match the CPU") {
  TwinBench bench(DType::bf16);
  struct Pair {
    Scaling a, b;
    DType a_format;
  };
  const Pair pair = GENERATE(Pair{Scaling::tensor, Scaling::tensor, DType::f8e4m3},
                             Pair{Scaling::tensor, Scaling::tensor, DType::f8e5m2},
                             Pair{Scaling::vector128, Scaling::block128, DType::f8e4m3},
                             Pair{Scaling::vector128, Scaling::vector128, DType::f8e4m3});
  const auto [m, n, k] = GENERATE(table<std::int64_t, std::int64_t, std::int64_t>(
      {{128, 128, 128}, {256, 384, 640}, {1152, 256, 512}, {512, 2048, 1408}}));
  const DType dtype = GENERATE(DType::bf16, DType::f32);
  CAPTURE(static_cast<int>(pair.a), static_cast<int>(pair.b), name_of(pair.a_format), m, n, k,
          name_of(dtype));
  // The magnitude of x changes with the row and with the block of 128 columns, that of w with the block of
  // 128 × 128, so that the use of a wrong scale is detected.
  const Twin x = bench.normal("x", {m, k}), w = bench.normal("w", {n, k});
  for (std::int64_t r = 0; r < m; ++r)
    for (std::int64_t c = 0; c < k; ++c)
      x.cpu.as<float>()[r * k + c] *= static_cast<float>(1 << (r + c / 128) % 5);
  for (std::int64_t r = 0; r < n; ++r)
    for (std::int64_t c = 0; c < k; ++c)
      w.cpu.as<float>()[r * k + c] *= static_cast<float>(1 << (r / 128 + c / 128) % 3);
  bench.upload(x);
  bench.upload(w);
  const QuantizedTwin a = quantized(bench, x, pair.a_format, pair.a),
                      b = quantized(bench, w, DType::f8e4m3, pair.b);
  const Twin out = bench.poisoned({m, n}, dtype), sum = bench.normal("sum", {m, n}, dtype, 1.0);
  run(bench, quantized_product,
      [&](auto on) { return QuantizedProduct{.a = a.on(on), .b = b.on(on), .addend = {}, .out = out.*on}; });
  // The tensor cores align 32 terms of a sum to the largest of them and truncate them to 14 bits. Each term
  // loses at most 2⁻¹³ of the largest one. The loss is towards 0, so its sign is the term's. Within 128
  // terms, no term or partial sum exceeds about 11 times the root mean square of the terms. The K errors then
  // have a standard deviation of 2⁻¹³ · 11/√3 · √Σ term². The bound, 40 · 2⁻¹³ · √Σ term², is about six of
  // these.
  const Tensor root_square = bench.root_square_products(x.cpu, w.cpu);
  const Bound bound{.relative = stored(dtype), .terms = {{40 * 0x1p-13, root_square}}};
  CHECK(bench.difference(out, bound) == "");
  for (int times = 0; times < 2; ++times) {
    Bound with_addend = bound;
    with_addend.terms.push_back({stored(DType::f32), bench.absolutes(sum.cpu)});
    // cuBLASLt rounds a product of 8-bit matrices to the output's dtype, adds, and rounds the sum.
    with_addend.terms.push_back({stored(dtype), bench.absolutes(out.cpu)});
    run(bench, quantized_product, [&](auto on) {
      return QuantizedProduct{.a = a.on(on), .b = b.on(on), .addend = sum.*on, .out = sum.*on};
    });
    CHECK(bench.difference(sum, with_addend) == "");
    bench.copy_to_cpu(sum);
  }
}
