// Measures the speed of a model's matrix products on this GPU: each shape of a step, for forward, the input's
// gradient and the weight's gradient, run long enough for the clock rate to become steady. Also measures the
// gain from fusing the MLP's gate with its product. --occupied 4 simulates pipeline receives whose blocks
// occupy 4 multiprocessors while they wait.

#include <chrono>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "runtime/arena.h"
#include "runtime/device.h"
#include "runtime/operators/parameters/random_normal.h"
#include "runtime/operators/products/linear.h"
#include "runtime/operators/products/linear_swiglu.h"
#include "runtime/operators/products/quantized_product.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/operators/rowwise/quantize.h"
#include "runtime/operators/rowwise/swiglu.h"
#include "tests/benchmarks/occupy.h"

using namespace foretoken;

namespace {

struct Shapes {
  std::string name;
  std::int64_t n, i, o;
};

Tensor random(Stream& stream, Arena& arena, const Shape& shape) {
  const Tensor out = arena.tensor(DType::bf16, shape);
  Arena wide_arena(stream.device());
  const Tensor wide = wide_arena.tensor(DType::f32, shape);
  random_normal(stream, {.out = wide, .rng = {1, "operand"}});
  convert(stream, wide, out);
  stream.synchronize();
  return out;
}

int occupied = 0;

/// Mean seconds of a call, measured over at least a fifth of a second.
template <class Call>
double seconds(Stream& stream, const Call& call) {
  using Clock = std::chrono::steady_clock;
  call();  // the first call may choose an algorithm
  stream.synchronize();
  const benchmarks::Occupied blocks(occupied);
  int calls = 0;
  double spent = 0;
  for (int batch = 20; spent < 0.2; calls += batch) {
    const auto start = Clock::now();
    for (int i = 0; i < batch; ++i) call();
    stream.synchronize();
    spent += std::chrono::duration<double>(Clock::now() - start).count();
  }
  return spent / calls;
}

/// Scaling of the 8-bit operands of a linear layer.
struct Recipe {
  const char* name;
  Scaling values, weights;  // `values`: activations and gradients
};

/// Measures the TFLOP/s of the three products with operands that are already quantized, and the GB/s of
/// quantizing the input with its transpose (2 bytes read and 2 written per element).
void print_quantized(Stream& stream, const Shapes& shape, const Recipe& recipe) {
  Arena arena(DeviceKind::cuda);
  const auto [name, n, i, o] = shape;
  struct Both {
    QuantizedTensor rows, columns;
  };
  const auto quantized = [&](const Tensor& x, Scaling scaling) {
    const Both both{plan_quantized(arena, DType::f8e4m3, x.shape[0], x.shape[1], scaling),
                    plan_quantized(arena, DType::f8e4m3, x.shape[1], x.shape[0], scaling)};
    quantize(stream, {.x = x, .out = both.rows, .transposed = both.columns});
    return both;
  };
  const Tensor plain = random(stream, arena, {n, i});
  const Both x = quantized(plain, recipe.values),
             dout = quantized(random(stream, arena, {n, o}), recipe.values),
             w = quantized(random(stream, arena, {o, i}), recipe.weights);
  const Tensor out = arena.tensor(DType::bf16, {n, o}), dx = arena.tensor(DType::bf16, {n, i}),
               dw = arena.tensor(DType::f32, {o, i});
  const double flops = 2e-12 * static_cast<double>(n * i) * static_cast<double>(o);
  const auto product = [&](const QuantizedTensor& a, const QuantizedTensor& b, const Tensor& to, bool sum,
                           bool fast) {
    return flops / seconds(stream, [&] {
             quantized_product(stream, {.a = a,
                                        .b = b,
                                        .addend = sum ? to : Tensor{},
                                        .out = to,
                                        .fast_accumulation = fast && recipe.values == Scaling::tensor});
           });
  };
  const double forward = product(x.rows, w.rows, out, false, true),
               input = product(dout.rows, w.columns, dx, false, false),
               weight = product(dout.columns, x.columns, dw, true, false);
  const double both =
      seconds(stream, [&] { quantize(stream, {.x = plain, .out = x.rows, .transposed = x.columns}); });
  fmt::print("  {:<12} {:>8.0f} {:>8.0f} {:>8.0f} {:>10.0f}\n", name, forward, input, weight,
             4e-9 * static_cast<double>(n * i) / both);
}

/// Times the gate together with its neighbouring products, as one operator and as two.
void compare_gated(Stream& stream, std::int64_t n, std::int64_t c, std::int64_t f) {
  Arena arena(DeviceKind::cuda);
  const Tensor x = random(stream, arena, {n, c}), w = random(stream, arena, {2 * f, c}),
               down = random(stream, arena, {c, f}), gate_up = random(stream, arena, {n, 2 * f}),
               dgate_up = random(stream, arena, {n, 2 * f}), gated = random(stream, arena, {n, f});
  const double one_forward = seconds(stream, [&] {
    linear_swiglu_forward(stream, {.x = x, .weight = w, .gate_up = gate_up, .gated = gated});
  });
  const double two_forward = seconds(stream, [&] {
    linear_forward(stream, {.x = x, .weight = w, .out = gate_up});
    swiglu_forward(stream, {.gate_up = gate_up, .out = gated});
  });
  const double one_backward = seconds(stream, [&] {
    linear_swiglu_backward_input(stream, {.dout = x,
                                          .weight = down,
                                          .gate_up = gate_up,
                                          .dgate_up = dgate_up,
                                          .dgated = gated,
                                          .gated = gated});
  });
  const double two_backward = seconds(stream, [&] {
    linear_backward_input(stream, {.dout = x, .weight = down, .dx = gated});
    swiglu_backward(stream, {.dout = gated, .gate_up = gate_up, .dgate_up = dgate_up, .out = gated});
  });
  fmt::print("\nmilliseconds with SwiGLU, in one operator and in two\n");
  fmt::print("  {:<12} {:>8.3f} {:>8.3f}\n", "forward", 1e3 * one_forward, 1e3 * two_forward);
  fmt::print("  {:<12} {:>8.3f} {:>8.3f}\n", "backward", 1e3 * one_backward, 1e3 * two_backward);
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app("The matrix products of a model on this GPU");
  app.add_option("--occupied", occupied, "multiprocessors that other kernels hold")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  Device device({.kind = DeviceKind::cuda});
  Stream& stream = device.stream();
  const std::int64_t n = 8192, c = 2048, f = 5632;
  const std::vector<Shapes> shapes{
      {"qkv", n, c, 3 * c},     {"o", n, c, c},        {"gate_up", n, c, 2 * f},     {"down", n, f, c},
      {"eh_proj", n, 2 * c, c}, {"head", n, c, 32768}, {"8192 cubed", n, 8192, 8192}};
  fmt::print("{}: TFLOP/s of {} rows in bf16, weight gradients summed in fp32\n", device.name(), n);
  fmt::print("  {:<12} {:>8} {:>8} {:>8}\n", "", "forward", "input", "weight");
  for (const Shapes& shape : shapes) {
    Arena arena(DeviceKind::cuda);
    const Tensor x = random(stream, arena, {shape.n, shape.i}), w = random(stream, arena, {shape.o, shape.i}),
                 out = random(stream, arena, {shape.n, shape.o}), dx = arena.tensor(DType::bf16, x.shape),
                 dw = arena.tensor(DType::f32, w.shape);
    const double flops = 2e-12 * static_cast<double>(shape.n * shape.i) * static_cast<double>(shape.o);
    const double weight =
        seconds(stream, [&] { linear_backward_weight(stream, {.dout = out, .x = x, .dweight = dw}); });
    const double input =
        seconds(stream, [&] { linear_backward_input(stream, {.dout = out, .weight = w, .dx = dx}); });
    const double forward =
        seconds(stream, [&] { linear_forward(stream, {.x = x, .weight = w, .out = out}); });
    fmt::print("  {:<12} {:>8.0f} {:>8.0f} {:>8.0f}\n", shape.name, flops / forward, flops / input,
               flops / weight);
  }
  for (const Recipe& recipe :
       {Recipe{"one scale a tensor", Scaling::tensor, Scaling::tensor},
        Recipe{"scales of 1 x 128, weights 128 x 128", Scaling::vector128, Scaling::block128}}) {
    fmt::print("\nTFLOP/s in fp8, {}; GB/s of quantizing\n", recipe.name);
    fmt::print("  {:<12} {:>8} {:>8} {:>8} {:>10}\n", "", "forward", "input", "weight", "quantize");
    for (const Shapes& shape : shapes) print_quantized(stream, shape, recipe);
  }
  compare_gated(stream, n, c, f);
} catch (const std::exception& error) {
  fmt::print(stderr, "products: {}\n", error.what());
  return 1;
}
