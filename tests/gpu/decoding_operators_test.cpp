// The operators of a decoding step on a GPU: products of few rows, alone and fused with a norm, and attention
// over caches. The bits of a row must not depend on the other rows.

#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/operators/attention/cached_attention.h"
#include "runtime/operators/products/linear.h"
#include "runtime/operators/products/linear_swiglu.h"
#include "runtime/operators/products/normed_products.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/operators/rowwise/rms_norm.h"
#include "runtime/operators/rowwise/swiglu.h"
#include "tests/gpu/twin.h"
#include "tests/support/catch.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

/// Copies the bytes of a tensor on the GPU to the host.
std::vector<std::byte> bits(Stream& stream, const Tensor& tensor) {
  std::vector<std::byte> bytes(tensor.bytes());
  copy(stream, tensor, {bytes.data(), tensor.dtype, DeviceKind::cpu, tensor.shape});
  stream.synchronize();
  return bytes;
}

struct Sizes {
  std::int64_t i, o;
};

const std::vector<Sizes> sizes{{8, 5},      {40, 16},     {128, 257},   {352, 128},
                               {2048, 600}, {5632, 2048}, {2048, 6144}, {4096, 1000}};

}  // namespace

TEST_CASE("products of few rows match the CPU") {
  TwinBench bench(DType::bf16);
  const auto [i, o] = GENERATE(from_range(sizes));
  const std::int64_t n = GENERATE(1, 7, 8, 9, 16, 17, 32, 33, 64, 65, 128, 150, 256);
  if (i * o > 4000000 && n != 7 && n != 64 && n != 150) return;
  CAPTURE(i, o, n);
  const Twin x = bench.normal("x", {n, i}), w = bench.normal("w", {o, i}, 1 / std::sqrt(double(i))),
             residual = bench.normal("residual", {n, o}), out = bench.poisoned({n, o}),
             plain = bench.poisoned({n, o}), wide = bench.poisoned({n, o}, DType::f32);
  for (auto on : {&Twin::cpu, &Twin::gpu}) {
    Stream& stream = on == &Twin::cpu ? bench.cpu() : bench.gpu();
    linear_forward(stream, {.x = x.*on, .weight = w.*on, .residual = residual.*on, .out = out.*on});
    linear_forward(stream, {.x = x.*on, .weight = w.*on, .out = plain.*on});
    linear_forward(stream, {.x = x.*on, .weight = w.*on, .out = wide.*on});
  }
  const Tensor absolute = bench.absolute_products(x.cpu, w.cpu);
  const Bound rounded{.relative = stored(DType::bf16), .terms = {{sum_roundoff(i + 1), absolute}}};
  Bound with_residual = rounded;
  with_residual.terms.push_back({sum_roundoff(i + 1), bench.absolutes(residual.cpu)});
  CHECK(bench.difference(out, with_residual) == "");
  CHECK(bench.difference(plain, rounded) == "");
  CHECK(bench.difference(wide, {.relative = stored(DType::f32), .terms = rounded.terms}) == "");
}

TEST_CASE("gated products of few rows match the CPU") {
  TwinBench bench(DType::bf16);
  const auto [c, f] = GENERATE(from_range(sizes));
  const std::int64_t n = GENERATE(1, 8, 13, 32, 64, 100);
  if (c * f > 4000000 && n != 8 && n != 100) return;
  CAPTURE(c, f, n);
  const Twin x = bench.normal("x", {n, c}), w = bench.normal("w", {2 * f, c}, 1 / std::sqrt(double(c))),
             gate_up = bench.poisoned({n, 2 * f}), gated = bench.poisoned({n, f});
  for (auto on : {&Twin::cpu, &Twin::gpu})
    linear_swiglu_forward(on == &Twin::cpu ? bench.cpu() : bench.gpu(),
                          {.x = x.*on, .weight = w.*on, .gate_up = gate_up.*on, .gated = gated.*on});
  CHECK(bench.difference(gate_up, {.relative = stored(DType::bf16),
                                   .terms = {{sum_roundoff(c), bench.absolute_products(x.cpu, w.cpu)}}}) ==
        "");
  bench.copy_to_cpu(gate_up);
  swiglu_forward(bench.cpu(), {.gate_up = gate_up.cpu, .out = gated.cpu});
  CHECK(bench.difference(gated, {.relative = stored(DType::bf16) + exp_roundoff}) == "");
}

TEST_CASE("the bits of a row of a product of few rows do not depend on the other rows") {
  TwinBench bench(DType::bf16);
  Stream& stream = bench.gpu();
  const auto [i, o] = GENERATE(from_range(sizes));
  constexpr std::int64_t most = 256;
  const Tensor x = bench.normal("x", {most, i}).gpu, w = bench.normal("w", {o, i}).gpu,
               residual = bench.normal("residual", {most, o}).gpu;
  struct Results {
    std::vector<std::byte> out, wide, gate_up, gated;
  };
  const auto rows = [&](std::int64_t begin, std::int64_t n) {
    const Tensor out = bench.poisoned({n, o}).gpu, wide = bench.poisoned({n, o}, DType::f32).gpu,
                 gate_up = bench.poisoned({n, o / 2 * 2}).gpu, gated = bench.poisoned({n, o / 2}).gpu;
    linear_forward(stream,
                   {.x = x.rows(begin, n), .weight = w, .residual = residual.rows(begin, n), .out = out});
    linear_forward(stream, {.x = x.rows(begin, n), .weight = w, .out = wide});
    linear_swiglu_forward(
        stream, {.x = x.rows(begin, n), .weight = w.rows(0, o / 2 * 2), .gate_up = gate_up, .gated = gated});
    return Results{bits(stream, out), bits(stream, wide), bits(stream, gate_up), bits(stream, gated)};
  };
  const Results all = rows(0, most);
  const auto part = [](const std::vector<std::byte>& whole, std::int64_t begin, std::int64_t n) {
    const auto row = static_cast<std::ptrdiff_t>(whole.size()) / most;
    return std::vector(whole.begin() + begin * row, whole.begin() + (begin + n) * row);
  };
  for (const auto& [begin, n] : std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 1},
                                                                                   {63, 1},
                                                                                   {5, 2},
                                                                                   {8, 3},
                                                                                   {1, 5},
                                                                                   {0, 8},
                                                                                   {7, 9},
                                                                                   {20, 12},
                                                                                   {40, 16},
                                                                                   {3, 17},
                                                                                   {30, 33},
                                                                                   {70, 64},
                                                                                   {1, 65},
                                                                                   {100, 128},
                                                                                   {7, 150}}) {
    CAPTURE(i, o, begin, n);
    const Results some = rows(begin, n);
    CHECK(some.out == part(all.out, begin, n));
    CHECK(some.wide == part(all.wide, begin, n));
    CHECK(some.gate_up == part(all.gate_up, begin, n));
    CHECK(some.gated == part(all.gated, begin, n));
  }
}

namespace {

/// Inputs and outputs of normed_qkv and normed_swiglu. Row n belongs to sequence n % sequences.
struct NormedBench {
  static constexpr std::int64_t sequences = 3, sequence_slots = 90;
  TwinBench bench{DType::bf16};
  AttentionHeads heads;
  std::int64_t n, c, f, width = (heads.query + 2 * heads.key_value) * heads.dim;
  std::vector<std::int32_t> positions = numbers([](std::int64_t i) { return i / sequences; }),
                            slots = numbers([](std::int64_t i) {
                              return i % sequences * sequence_slots + i / sequences;
                            });
  Twin x = bench.normal("x", {n, c}, 3), norm = bench.normal("norm", {c}),
       w_qkv = bench.normal("qkv", {width, c}, 1 / std::sqrt(double(c))),
       w_gate_up = bench.normal("gate_up", {2 * f, c}, 1 / std::sqrt(double(c))),
       cos = bench.normal("cos", {sequence_slots, heads.dim / 2}, DType::f32, 1),
       sin = bench.normal("sin", {sequence_slots, heads.dim / 2}, DType::f32, 1),
       cache = bench.normal("cache", {sequences, sequence_slots, 2 * heads.key_value*heads.dim}),
       qkv = bench.zeros({n, width}, DType::bf16), gated = bench.poisoned({n, f}),
       normed = bench.poisoned({n, c}), rstd = bench.poisoned({n}, DType::f32),
       gate_up = bench.poisoned({n, 2 * f}), at_positions = bench.integers({n}, positions),
       at_slots = bench.integers({n}, slots);

  template <class Number>
  std::vector<std::int32_t> numbers(const Number& number) const {
    std::vector<std::int32_t> all;
    for (std::int64_t i = 0; i < n; ++i) all.push_back(static_cast<std::int32_t>(number(i)));
    return all;
  }
  /// Runs both products on rows [begin, begin + count).
  void run(Stream& stream, Tensor Twin::*on, std::int64_t begin, std::int64_t count) const {
    const auto part = [&](const Twin& twin) { return (twin.*on).rows(begin, count); };
    const NormedRows rows{
        .x = part(x), .weight = norm.*on, .eps = 1e-5, .normed = part(normed), .rstd = part(rstd)};
    normed_qkv(stream, {.rows = rows,
                        .weight = w_qkv.*on,
                        .heads = heads,
                        .cos = cos.*on,
                        .sin = sin.*on,
                        .positions = part(at_positions),
                        .slots = part(at_slots),
                        .qkv = part(qkv),
                        .cache = cache.*on});
    normed_swiglu(stream,
                  {.rows = rows, .weight = w_gate_up.*on, .gate_up = part(gate_up), .gated = part(gated)});
  }
};

/// Bounds of a NormedBench's results. Normed elements are rounded to bf16 before the products read them, and
/// the products are rounded to bf16 before rope or SwiGLU reads them.
struct NormedBounds {
  Bound gated, queries, cache;

  explicit NormedBounds(NormedBench& of) {
    TwinBench& bench = of.bench;
    const double u = unit_roundoff(DType::bf16);
    const Tensor normed = bench.magnitudes({of.n, of.c}), rstd = bench.magnitudes({of.n});
    rms_norm_forward(bench.cpu(),
                     {.x = of.x.cpu, .weight = of.norm.cpu, .eps = 1e-5, .out = {normed}, .rstd = rstd});
    /// Returns the product of the normed rows and the absolute error of its rounded results.
    const auto product = [&](const Tensor& weight) {
      const Shape shape{of.n, weight.shape[0]};
      const Tensor out = bench.magnitudes(shape), error = bench.magnitudes(shape),
                   absolute = bench.absolute_products(normed, weight),
                   root_square = bench.root_square_products(normed, weight);
      linear_forward(bench.cpu(), {.x = normed, .weight = weight, .out = out});
      // The norm's sum of squares has the same relative roundoff as the product's sum; it scales all terms.
      for (std::int64_t i = 0; i < out.elements(); ++i)
        error.as<float>()[i] = static_cast<float>(u * std::abs(out.as<float>()[i]) +
                                                  2 * sum_roundoff(of.c) * absolute.as<float>()[i] +
                                                  rounded_terms(DType::bf16) * root_square.as<float>()[i]);
      return std::pair{out, error};
    };

    const auto [gate_up, gate_up_error] = product(of.w_gate_up.cpu);
    const Tensor gated_error = bench.magnitudes({of.n, of.f});
    for (std::int64_t i = 0; i < of.n * of.f; ++i) {
      const std::int64_t gate = i / of.f * 2 * of.f + i % of.f, up = gate + of.f;
      const double g = gate_up.as<float>()[gate], value = g / (1 + std::exp(-g));
      const double slope = 1 / (1 + std::exp(-g)) * (1 + g - value);
      // The error of the gate is small, so the slope within it differs from the slope at the gate by less
      // than 0.1.
      gated_error.as<float>()[i] = static_cast<float>(
          (std::abs(slope) + 0.1) * std::abs(gate_up.as<float>()[up]) * gate_up_error.as<float>()[gate] +
          std::abs(value) * gate_up_error.as<float>()[up]);
    }
    gated = {.relative = stored(DType::bf16) + exp_roundoff, .terms = {{1, gated_error}}};

    const auto [qkv, error] = product(of.w_qkv.cpu);
    const std::int64_t half = of.heads.dim / 2;
    for (std::int64_t row = 0; row < of.n; ++row)
      for (std::int64_t head = 0; head < of.heads.query + of.heads.key_value; ++head)
        for (std::int64_t i = 0; i < half; ++i) {
          const auto angle = of.positions[static_cast<std::size_t>(row)] * half + i;
          const float cos = std::abs(of.cos.cpu.as<float>()[angle]),
                      sin = std::abs(of.sin.cpu.as<float>()[angle]);
          float* first = error.as<float>() + row * of.width + head * of.heads.dim + i;
          float* second = first + half;
          const float a = *first, b = *second;
          *first = cos * a + sin * b;
          *second = cos * b + sin * a;
        }
    queries = {.relative = stored(DType::bf16), .terms = {{1, error}}};
    const Tensor cache_error = bench.magnitudes(of.cache.cpu.shape);
    const std::int64_t stored_width = 2 * of.heads.key_value * of.heads.dim;
    for (std::int64_t row = 0; row < of.n; ++row)
      std::copy_n(error.as<float>() + row * of.width + of.heads.query * of.heads.dim, stored_width,
                  cache_error.as<float>() + of.slots[static_cast<std::size_t>(row)] * stored_width);
    cache = {.relative = stored(DType::bf16), .terms = {{1, cache_error}}};
  }
};

}  // namespace

TEST_CASE("norms and the products after them match the CPU") {
  const std::int64_t n = GENERATE(1, 8, 13, 29, 64, 70, 190, 257);
  const AttentionHeads heads = GENERATE(AttentionHeads{4, 2, 32}, AttentionHeads{3, 1, 80},
                                        AttentionHeads{16, 16, 128}, AttentionHeads{2, 2, 6});
  const std::int64_t c = heads.dim == 128 ? 2048 : 200;
  CAPTURE(n, heads.query, heads.dim);
  NormedBench each{.heads = heads, .n = n, .c = c, .f = 136};
  each.run(each.bench.cpu(), &Twin::cpu, 0, n);
  each.run(each.bench.gpu(), &Twin::gpu, 0, n);
  const NormedBounds bounds(each);
  CHECK(each.bench.difference(each.gated, bounds.gated) == "");
  CHECK(each.bench.difference(each.cache, bounds.cache) == "");
  // The key and value columns of qkv are scratch: the test ignores them.
  const Tensor found = each.bench.download(each.qkv);
  for (std::int64_t row = 0; row < n; ++row)
    for (std::int64_t i = heads.query * heads.dim; i < each.width; ++i)
      found.as<float>()[row * each.width + i] = each.qkv.cpu.as<float>()[row * each.width + i];
  CHECK(mismatch(found, each.qkv.cpu, bounds.queries) == "");
}

TEST_CASE("the bits of a row of a product after a norm do not depend on the other rows") {
  const std::int64_t c = GENERATE(40, 352, 2048, 5632);
  CAPTURE(c);
  constexpr std::int64_t most = 200;
  NormedBench each{.heads = {4, 2, 48}, .n = most, .c = c, .f = 200};
  Stream& stream = each.bench.gpu();
  const auto results = [&] {
    return std::vector{bits(stream, each.qkv.gpu), bits(stream, each.cache.gpu),
                       bits(stream, each.gated.gpu)};
  };
  each.run(stream, &Twin::gpu, 0, most);
  const auto all = results();
  for (const std::int64_t together : {1, 3, 8, 11, 16, 17, 32, 40, 70, 130}) {
    CAPTURE(together);
    for (std::int64_t begin = 0; begin < most; begin += together)
      each.run(stream, &Twin::gpu, begin, std::min(together, most - begin));
    CHECK(results() == all);
  }
}

TEST_CASE("the bits of a row of cached attention do not depend on the other rows") {
  const AttentionHeads heads =
      GENERATE(AttentionHeads{16, 16, 128}, AttentionHeads{8, 2, 64}, AttentionHeads{32, 4, 80},
               AttentionHeads{20, 1, 96}, AttentionHeads{4, 2, 256}, AttentionHeads{2, 2, 6});
  const auto [nh, nkv, hs] = heads;
  // In the second case there are more groups of rows than multiprocessors.
  const bool many = GENERATE(false, true);
  CAPTURE(nh, nkv, hs, many);
  TwinBench bench(DType::bf16);
  const std::int32_t sequence_slots = many ? 280 : 1500, sequences = many ? 90 : 4;
  std::vector<std::array<std::int32_t, 3>> runs{{0, 505, 522}, {1, 0, 5}, {2, 1290, 1300}, {3, 63, 66}};
  if (many) {
    runs.clear();
    for (std::int32_t s = 0; s < sequences; ++s) runs.push_back({s, 3 * s, 3 * s + 3});
  }
  std::vector<std::int32_t> slots;
  for (const auto& [sequence, begin, end] : runs)
    for (std::int32_t t = begin; t < end; ++t) slots.push_back(sequence * sequence_slots + t);
  const auto n = static_cast<std::int64_t>(slots.size());
  const Tensor qkv = bench.normal("qkv", {n, (nh + 2 * nkv) * hs}, 2).gpu,
               cache = bench.normal("cache", {sequences, sequence_slots, 2 * nkv * hs}, 2).gpu,
               at = bench.integers({n}, slots).gpu, out = bench.poisoned({n, nh * hs}).gpu;
  const auto run = [&](std::int64_t together) {
    for (std::int64_t begin = 0; begin < n; begin += together) {
      const std::int64_t count = std::min(together, n - begin);
      cached_attention(bench.gpu(), {.heads = heads,
                                     .qkv = qkv.rows(begin, count),
                                     .slots = at.rows(begin, count),
                                     .cache = cache,
                                     .out = out.rows(begin, count)});
    }
    return bits(bench.gpu(), out);
  };
  const auto single = run(1);
  for (const std::int64_t together : std::vector<std::int64_t>{2, 3, 5, 8, 17, n}) {
    CAPTURE(together);
    CHECK(run(together) == single);
  }
}

TEST_CASE("a row of a tree has the bits of the same row as text, with any number of other rows") {
  const AttentionHeads heads =
      GENERATE(AttentionHeads{16, 16, 128}, AttentionHeads{8, 2, 64}, AttentionHeads{20, 1, 96});
  const std::int32_t sequences = GENERATE(1, 16), known = GENERATE(0, 61, 126, 250);
  const auto [nh, nkv, hs] = heads;
  CAPTURE(nh, nkv, hs, sequences, known);
  TwinBench bench(DType::bf16);
  constexpr std::int32_t sequence_slots = 300, other = 280, branches = 290, depth = 5, copies = 4, reach = 6;
  // A branch of five tokens, repeated four times. It runs once as text, and once as rows of a tree whose keys
  // are in other slots.
  std::vector<std::int32_t> text, slots, positions, paths, from, to;
  for (std::int32_t s = 0; s < sequences; ++s)
    for (std::int32_t row = 0; row < copies * depth; ++row) {
      const std::int32_t back = row % depth, position = known + back;
      text.push_back(s * sequence_slots + position);
      slots.push_back(s * sequence_slots + branches + back);
      positions.push_back(position);
      for (std::int32_t i = 0; i < reach; ++i)
        paths.push_back(i <= back ? branches + back - i : std::max(position - i, 0));
      if (row >= depth) continue;
      from.push_back(text.back());
      to.push_back(slots.back());
    }
  // Puts keys of other positions into the slots of the text.
  for (std::int32_t s = 0; s < sequences; ++s)
    for (std::int32_t back = 0; back < depth; ++back) {
      from.push_back(s * sequence_slots + other);
      to.push_back(s * sequence_slots + known + back);
    }
  const auto n = static_cast<std::int64_t>(slots.size()), m = static_cast<std::int64_t>(from.size());
  const Tensor qkv = bench.normal("qkv", {n, (nh + 2 * nkv) * hs}, 2).gpu,
               cache = bench.normal("cache", {sequences, sequence_slots, 2 * nkv * hs}, 2).gpu,
               out = bench.poisoned({n, nh * hs}).gpu;
  CachedAttention op{.heads = heads,
                     .qkv = qkv,
                     .slots = bench.integers({n}, text).gpu,
                     .positions = {},
                     .paths = {},
                     .cache = cache,
                     .out = out};
  cached_attention(bench.gpu(), op);
  const auto as_text = bits(bench.gpu(), out);
  cache_move(bench.gpu(),
             {.from = bench.integers({m}, from).gpu, .to = bench.integers({m}, to).gpu, .cache = cache});
  op.slots = bench.integers({n}, slots).gpu;
  op.positions = bench.integers({n}, positions).gpu;
  op.paths = bench.integers({n, reach}, paths).gpu;
  fill(bench.gpu(), out, 0);
  cached_attention(bench.gpu(), op);
  CHECK(bits(bench.gpu(), out) == as_text);
}
