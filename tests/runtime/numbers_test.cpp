// Rounding to bf16, and exp and erf of vector_math.h compared with the standard library's.

#include <cmath>
#include <limits>

#include "runtime/bfloat16.h"
#include "runtime/operators/vector_math.h"
#include "tests/support/catch.h"

using namespace foretoken;

TEST_CASE("bf16 rounds to nearest, ties to even") {
  CHECK(static_cast<float>(BFloat16(1.0F + 0x1p-8F)) == 1.0F);
  CHECK(static_cast<float>(BFloat16(1.0F + 3 * 0x1p-8F)) == 1.0F + 0x1p-6F);
  CHECK(static_cast<float>(BFloat16(1.0F + 0x1.1p-8F)) == 1.0F + 0x1p-7F);
  CHECK(std::isnan(static_cast<float>(BFloat16(std::numeric_limits<float>::quiet_NaN()))));
  CHECK(std::isinf(static_cast<float>(BFloat16(3.4e38F))));
}

TEST_CASE("the vectorised exp is exact to 2e-7 relative over its range") {
  for (float x = -87.0F; x < 88.0F; x += 0.0137F)
    REQUIRE(std::abs(cpu::exp(x) / std::exp(static_cast<double>(x)) - 1) < 2e-7);
  CHECK(cpu::exp(-1000.0F) < 1e-37F);
  CHECK(std::isfinite(cpu::exp(1000.0F)));
}

TEST_CASE("the vectorised exp of doubles is exact to 2 ulp over its range, and 0 below it") {
  for (double x = -708; x < 709; x += 0.00137) {
    const double expected = std::exp(x);
    REQUIRE(std::abs(cpu::exp(x) - expected) <= 2 * (std::nextafter(expected, INFINITY) - expected));
  }
  CHECK(cpu::exp(0.0) == 1);
  CHECK(cpu::exp(-709.0) == 0);
  CHECK(cpu::exp(-std::numeric_limits<double>::infinity()) == 0);
  CHECK(std::isfinite(cpu::exp(1000.0)));
}

TEST_CASE("the vectorised erf is exact to 2e-7") {
  for (float x = -12.0F; x < 12.0F; x += 0.0013F)
    REQUIRE(std::abs(cpu::erf(x) - std::erf(static_cast<double>(x))) < 2e-7);
  CHECK(cpu::erf(1e10F) == 1);
  CHECK(cpu::erf(-1e10F) == -1);
}
