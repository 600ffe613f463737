// 8-bit floats compared with values computed by ml_dtypes, and quantized matrices and products compared with
// the formulas in quantize.h.

#include "runtime/operators/rowwise/quantize.h"

#include <cmath>
#include <vector>

#include "io/hdf5/hdf5.h"
#include "runtime/operators/products/quantized_product.h"
#include "tests/support/catch.h"
#include "tests/support/numeric.h"
#include "tests/support/source_tree.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

template <class T>
std::vector<T> golden(const Hdf5File& file, const std::string& name) {
  const Hdf5Dataset dataset = file.dataset(name);
  std::vector<T> values(static_cast<std::size_t>(dataset.shape().elements()));
  dataset.read(tensor_over(std::span(values), dataset.shape()));
  return values;
}

/// Dequantized value, data · scale, of element [r, c].
float value(const QuantizedTensor& tensor, std::int64_t r, std::int64_t c) {
  const float* scales = tensor.scales.as<float>();
  const std::int64_t rows = tensor.data.shape[0], i = r * tensor.data.shape[1] + c;
  const float scale = tensor.scaling == Scaling::tensor ? scales[0]
                      : tensor.scaling == Scaling::vector128
                          ? scales[c / 128 * rows + r]
                          : scales[r / 128 * tensor.scales.shape[1] + c / 128];
  return scale * (tensor.data.dtype == DType::f8e4m3 ? static_cast<float>(tensor.data.as<Float8E4M3>()[i])
                                                     : static_cast<float>(tensor.data.as<Float8E5M2>()[i]));
}

/// The largest magnitude among the elements that share a scale with element [r, c] of x [R, K].
float amax(const Tensor& x, Scaling scaling, std::int64_t r, std::int64_t c) {
  const std::int64_t rows = x.shape[0], columns = x.shape[1];
  const bool whole = scaling == Scaling::tensor;
  const std::int64_t r0 = whole                           ? 0
                          : scaling == Scaling::vector128 ? r
                                                          : r / 128 * 128,
                     r1 = whole                           ? rows
                          : scaling == Scaling::vector128 ? r + 1
                                                          : std::min(rows, r0 + 128),
                     c0 = whole ? 0 : c / 128 * 128, c1 = whole ? columns : c0 + 128;
  float largest = 0;
  for (std::int64_t i = r0; i < r1; ++i)
    for (std::int64_t j = c0; j < c1; ++j)
      largest = std::max(largest, std::fabs(x.as<float>()[i * columns + j]));
  return largest;
}

}  // namespace

TEST_CASE("8-bit floats are encoded and decoded as ml_dtypes does") {
  const Hdf5File file = Hdf5File::open(in_source_tree("tests/golden/float8.h5"));
  const auto check = [&]<class F>(const std::string& name, F) {
    const std::vector<float> decoded = golden<float>(file, name + "/decoded");
    REQUIRE(decoded.size() == 256);
    for (int code = 0; code < 256; ++code) {
      F number;
      number.bits = static_cast<std::uint8_t>(code);
      const float expected = decoded[static_cast<std::size_t>(code)];
      CAPTURE(name, code, expected);
      CHECK((std::isnan(expected) ? std::isnan(static_cast<float>(number))
                                  : static_cast<float>(number) == expected));
    }
    const std::vector<float> inputs = golden<float>(file, name + "/inputs");
    const std::vector<std::uint8_t> codes = golden<std::uint8_t>(file, name + "/codes");
    REQUIRE(inputs.size() == codes.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      CAPTURE(name, inputs[i]);
      CHECK(int{F(inputs[i]).bits} == int{codes[i]});
    }
  };
  check("e4m3", Float8E4M3());
  check("e5m2", Float8E5M2());
}

TEST_CASE("a quantized matrix is within half a step of its values, and its transpose alike") {
  TestStream stream(2);
  const DType format = GENERATE(DType::f8e4m3, DType::f8e5m2);
  const Scaling scaling = GENERATE(Scaling::tensor, Scaling::vector128, Scaling::block128);
  CAPTURE(name_of(format), static_cast<int>(scaling));
  const std::int64_t rows = 256, columns = 384;
  Arena arena(DeviceKind::cpu);
  const Tensor x = arena.tensor(DType::f32, {rows, columns});
  fill_normal(x, "x", 1.0);
  // Raises the largest magnitude of the groups on the diagonal.
  for (std::int64_t r = 0; r < rows; ++r) x.as<float>()[r * columns + r] *= 100;
  const QuantizedTensor out = plan_quantized(arena, format, rows, columns, scaling),
                        transposed = plan_quantized(arena, format, columns, rows, scaling);
  quantize(stream, {.x = x, .out = out, .transposed = transposed});
  // Half the spacing of numbers is 2⁻⁴ of a normal e4m3 number and 2⁻³ of a normal e5m2 number. Below the
  // normal numbers the spacing is constant.
  const double relative = format == DType::f8e4m3 ? 0x1p-4 : 0x1p-3,
               smallest = format == DType::f8e4m3 ? 0x1p-10 / 448 : 0x1p-17 / 57344;
  for (std::int64_t r = 0; r < rows; r += 7)
    for (std::int64_t c = 0; c < columns; ++c) {
      const double exact = x.as<float>()[r * columns + c];
      const auto bound = [&](float largest) {
        return 1.001 * std::max(relative * std::fabs(exact), smallest * static_cast<double>(largest));
      };
      CAPTURE(r, c, exact);
      CHECK(std::fabs(value(out, r, c) - exact) <= bound(amax(x, scaling, r, c)));
      // In the transpose, 128 elements of a column of x share a scale.
      float down = amax(x, scaling, r, c);
      if (scaling == Scaling::vector128) {
        down = 0;
        for (std::int64_t i = r / 128 * 128; i < r / 128 * 128 + 128; ++i)
          down = std::max(down, std::fabs(x.as<float>()[i * columns + c]));
      }
      CHECK(std::fabs(value(transposed, c, r) - exact) <= bound(down));
    }
}

TEST_CASE("a product of quantized matrices is the product of their dequantized values") {
  TestStream stream(2);
  const auto [a_scaling, b_scaling] =
      GENERATE(table<Scaling, Scaling>({{Scaling::tensor, Scaling::tensor},
                                        {Scaling::vector128, Scaling::block128},
                                        {Scaling::vector128, Scaling::vector128}}));
  Arena arena(DeviceKind::cpu);
  const std::int64_t m = 128, n = 256, k = 256;
  const Tensor x = arena.tensor(DType::f32, {m, k}), w = arena.tensor(DType::f32, {n, k}),
               out = arena.tensor(DType::f32, {m, n});
  fill_normal(x, "x", 1.0);
  fill_normal(w, "w", 1.0);
  fill_normal(out, "out", 1.0);
  const QuantizedTensor a = plan_quantized(arena, DType::f8e5m2, m, k, a_scaling),
                        b = plan_quantized(arena, DType::f8e4m3, n, k, b_scaling);
  quantize(stream, {.x = x, .out = a, .transposed = {}});
  quantize(stream, {.x = w, .out = b, .transposed = {}});
  const std::vector<float> before(out.as<float>(), out.as<float>() + out.elements());
  quantized_product(stream, {.a = a, .b = b, .addend = out, .out = out});
  for (std::int64_t i = 0; i < m; i += 17)
    for (std::int64_t j = 0; j < n; j += 5) {
      double expected = before[static_cast<std::size_t>(i * n + j)], magnitude = std::fabs(expected);
      for (std::int64_t c = 0; c < k; ++c) {
        const double term = double{value(a, i, c)} * double{value(b, j, c)};
        expected += term;
        magnitude += std::fabs(term);
      }
      CAPTURE(i, j);
      CHECK(std::fabs(out.as<float>()[i * n + j] - expected) <= 1e-6 * magnitude);
    }
}
