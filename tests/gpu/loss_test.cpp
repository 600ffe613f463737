// The output head's loss and the count of accepted drafts, compared with the CPU.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "runtime/operators/products/linear.h"
#include "runtime/operators/vocabulary/acceptance.h"
#include "runtime/operators/vocabulary/cross_entropy_head.h"
#include "runtime/random.h"
#include "tests/gpu/twin.h"
#include "tests/support/catch.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

/// Bounds of the rounding errors in the head's results. In bf16 the GPU stores rounded logits and replaces
/// them by their gradient, which is rounded again; the CPU keeps f32. With r the errors of a row's logits:
///
///   P = softmax(logits): δP = P (r − Σ P r),   d = scale (P − onehot): δd = scale δP + the rounding of d
///
/// Roundings to bf16 are independent, so their squares are added; of errors in f32 the absolute values are
/// added.
class LossNoise {
 public:
  Bound loss, dx, dweight;

  /// Reads the inputs, and dweight before the head adds to it.
  LossNoise(TwinBench& bench, const CrossEntropyHead& op)
      : rows_(op.x.elements() / op.weight.shape[1]), v_(op.weight.shape[0]), dtype_(bench.dtype()) {
    const std::int64_t c = op.weight.shape[1];
    const Shape shape{rows_, v_};
    logits_ = bench.magnitudes(shape);
    const Tensor x = op.x.view({rows_, c});
    linear_forward(bench.cpu(), {.x = x, .weight = op.weight, .out = logits_});
    error_ = bench.absolute_products(x, op.weight);
    const Tensor gradient = bench.magnitudes(shape), absolute = bench.magnitudes(shape),
                 square = bench.magnitudes(shape);
    double loss_error = 0, loss_square = 0;
    for (std::int64_t row = 0; row < rows_; ++row) {
      const std::int64_t t = op.x.shape[1], s = op.targets.tokens.shape[1], at = row / t * s + row % t;
      const std::int32_t start = op.targets.document_start.as<std::int32_t>()[at];
      const bool valid =
          start >= 0 && op.targets.document_start.as<std::int32_t>()[at + op.targets.ahead] == start;
      const std::int32_t target = op.targets.tokens.as<std::int32_t>()[at + op.targets.ahead];
      float* logits = logits_.as<float>() + row * v_;
      float* error = error_.as<float>() + row * v_;
      double largest = -INFINITY, total = 0;
      for (std::int64_t i = 0; i < v_; ++i) {
        error[i] = static_cast<float>(sum_roundoff(c) * error[i] + exp_roundoff);
        largest = std::max<double>(largest, logits[i]);
      }
      if (!valid) continue;
      for (std::int64_t i = 0; i < v_; ++i) total += std::exp(logits[i] - largest);
      double mean_error = 0, mean_square = 0;
      for (std::int64_t i = 0; i < v_; ++i) {
        const double p = std::exp(logits[i] - largest) / total;
        mean_error += p * error[i];
        mean_square += std::pow(p * rounding(logits[i]), 2);
      }
      for (std::int64_t i = 0; i < v_; ++i) {
        const double p = std::exp(logits[i] - largest) / total, scale = op.gradient_scale;
        const double d = scale * (p - (i == target ? 1 : 0));
        gradient.as<float>()[row * v_ + i] = static_cast<float>(std::abs(d));
        absolute.as<float>()[row * v_ + i] = static_cast<float>(
            scale * p * (error[i] + mean_error + 2 * exp_roundoff) + stored(DType::f32) * std::abs(d));
        // Twice the rounding of d: cuBLAS may also round parts of the sum over the vocabulary.
        square.as<float>()[row * v_ + i] =
            static_cast<float>(scale * scale * p * p * (std::pow(rounding(logits[i]), 2) + mean_square) +
                               2 * std::pow(rounding(d), 2));
      }
      loss_error += mean_error + error[target] + stored(DType::f32) * (std::abs(largest) + std::log(total));
      loss_square += mean_square + std::pow(rounding(logits[target]), 2);
    }
    loss = {.absolute = loss_error + deviations * std::sqrt(loss_square)};

    const auto terms = [&](std::int64_t count, const Shape& result, const auto& product) {
      const Tensor error_sum = bench.magnitudes(result), sum = bench.magnitudes(result),
                   root_square = bench.magnitudes(result);
      product(absolute, false, error_sum);
      product(gradient, false, sum);
      product(square, true, root_square);
      for (float& value : root_square.span<float>()) value = std::sqrt(value);
      return std::vector<Bound::Term>{{1, error_sum}, {sum_roundoff(count), sum}, {deviations, root_square}};
    };
    dx = {.relative = stored(dtype_),
          .terms = terms(v_, {rows_, c}, [&](const Tensor& d, bool squared, const Tensor& out) {
            const Tensor w = squared ? bench.squares(op.weight) : bench.absolutes(op.weight);
            linear_backward_input(bench.cpu(), {.dout = d, .weight = w, .dx = out});
          })};
    dweight = {.relative = stored(DType::f32),
               .terms = terms(rows_ + 1, {v_, c}, [&](const Tensor& d, bool squared, const Tensor& out) {
                 const Tensor of_x = squared ? bench.squares(x) : bench.absolutes(x);
                 linear_backward_weight(bench.cpu(), {.dout = d, .x = of_x, .dweight = out});
               })};
    dweight.terms.push_back({sum_roundoff(rows_ + 1), bench.absolutes(op.dweight)});
  }

  /// Describes the first row whose argmax rounding cannot explain: its logit is smaller than the largest by
  /// more than the roundings. (Logits that differ in f32 may be equal after rounding.) Returns an empty text
  /// if there is no such row.
  std::string wrong_argmax(const Tensor& argmax) const {
    for (std::int64_t row = 0; row < rows_; ++row) {
      const float* logits = logits_.as<float>() + row * v_;
      const float* error = error_.as<float>() + row * v_;
      const std::int64_t largest = std::max_element(logits, logits + v_) - logits;
      const std::int32_t found = argmax.as<std::int32_t>()[row];
      if (found < 0 || found >= v_) return fmt::format("row {}: argmax {} of {} logits", row, found, v_);
      const double u = dtype_ == DType::bf16 ? unit_roundoff(dtype_) : 0;
      const double allowed =
          error[largest] + error[found] + u * (std::abs(logits[largest]) + std::abs(logits[found]));
      if (!(logits[largest] - logits[found] <= allowed))
        return fmt::format("row {}: argmax {} has the logit {}, but {} has {} ± {:.3g}", row, found,
                           logits[found], largest, logits[largest], allowed);
    }
    return {};
  }

 private:
  /// The factor of rounded_terms(), without the unit roundoff.
  static constexpr double deviations = 3;

  double rounding(double value) const {
    return dtype_ == DType::bf16 ? unit_roundoff(dtype_) * std::abs(value) : 0;
  }

  std::int64_t rows_, v_;
  DType dtype_;
  Tensor logits_, error_;  // [rows, V]: in f32, and their absolute errors before a rounding to bf16
};

}  // namespace

TEST_CASE("the cross-entropy head matches the CPU: loss, argmax and gradients, whatever the chunk") {
  TwinBench bench(any_dtype());
  const auto [b, t, c, v, chunk] = GENERATE(
      table<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t>({{1, 1, 8, 2, 1},
                                                                                   {2, 5, 8, 11, 3},
                                                                                   {2, 33, 64, 257, 64},
                                                                                   {1, 40, 128, 32768, 40},
                                                                                   {1, 9, 64, 129281, 4}}));
  CAPTURE(name_of(bench.dtype()), b, t, c, v, chunk);
  const CounterRng rng(3, "targets");
  std::vector<std::int32_t> tokens, starts;
  for (std::int64_t i = 0; i < b * (t + 2); ++i) {
    tokens.push_back(
        static_cast<std::int32_t>(rng.u64(static_cast<std::uint64_t>(i)) % static_cast<std::uint64_t>(v)));
    starts.push_back(i / (t + 2) == 1 && i % (t + 2) > t / 2 ? -1 : i % (t + 2) < 3 ? 0 : 3);
  }
  const Twin ids = bench.integers({b, t + 2}, tokens), start = bench.integers({b, t + 2}, starts);
  const Twin x = bench.normal("x", {b, t, c}), w = bench.normal("w", {v, c}, 0.3),
             logits = bench.poisoned({chunk, v}), dx = bench.poisoned({b, t, c});
  const Twin loss = bench.zeros({1}, DType::f64), dw = bench.normal("dw", {v, c}, DType::f32, 1e-4);
  const Twin argmax = bench.integers({b, t}, std::vector<std::int32_t>(static_cast<std::size_t>(b * t), -7));
  const auto head = [&](Tensor Twin::*on) {
    return CrossEntropyHead{.x = x.*on,
                            .weight = w.*on,
                            .targets = {.tokens = ids.*on, .document_start = start.*on, .ahead = 2},
                            .gradient_scale = 0.01,
                            .logits = logits.*on,
                            .loss_sum = loss.*on,
                            .argmax = argmax.*on,
                            .dx = dx.*on,
                            .dweight = dw.*on};
  };
  const LossNoise noise(bench, head(&Twin::cpu));
  run(bench, cross_entropy_head, head);
  CHECK(bench.difference(loss, noise.loss) == "");
  CHECK(bench.difference(dx, noise.dx) == "");
  CHECK(bench.difference(dw, noise.dweight) == "");
  CHECK(noise.wrong_argmax(bench.download(argmax)) == "");

  // Computes each gradient without the other.
  const Twin dx_alone = bench.poisoned({b, t, c}), dw_alone = bench.normal("dw", {v, c}, DType::f32, 1e-4);
  for (const bool of_x : {false, true})
    run(bench, cross_entropy_head, [&](Tensor Twin::*on) {
      CrossEntropyHead alone = head(on);
      alone.dx = of_x ? dx_alone.*on : Tensor{};
      alone.dweight = of_x ? Tensor{} : dw_alone.*on;
      return alone;
    });
  CHECK(bench.difference(dx_alone, noise.dx) == "");
  CHECK(bench.difference(dw_alone, noise.dweight) == "");
}

TEST_CASE("accepted drafts are counted as on the CPU") {
  TwinBench bench(DType::f32);
  const auto [b, t] = GENERATE(table<std::int64_t, std::int64_t>({{1, 1}, {2, 5}, {3, 257}, {4, 2048}}));
  CAPTURE(b, t);
  constexpr std::int64_t depths = 3;
  const CounterRng rng(5, "drafts");
  std::uint64_t drawn = 0;
  const auto integers = [&](std::int64_t width, const auto& value) {
    std::vector<std::int32_t> values;
    for (std::int64_t n = 0; n < b * width; ++n) values.push_back(value(n % width));
    return bench.integers({b, width}, values);
  };
  const auto token = [&](std::int64_t) { return static_cast<std::int32_t>(rng.u64(drawn++) % 2); };
  const Twin main = integers(t, token);
  const Twin start = integers(
      t + 1 + depths, [&](std::int64_t i) { return static_cast<std::int32_t>(i < t / 3 ? -1 : i / 7 * 7); });
  const Twin agrees = bench.integers({b, t}, std::vector<std::int32_t>(static_cast<std::size_t>(b * t), -7));
  const Twin drafts = bench.zeros({depths}, DType::f64), accepted = bench.zeros({depths}, DType::f64);
  for (std::int64_t k = 1; k <= depths; ++k) {
    const Twin draft = integers(t, token);
    run(bench, count_acceptances, [&](auto on) {
      return CountAcceptances{.main = main.*on,
                              .draft = draft.*on,
                              .document_start = start.*on,
                              .depth = k,
                              .agrees = agrees.*on,
                              .drafts = (drafts.*on).flat(k - 1, 1),
                              .accepted = (accepted.*on).flat(k - 1, 1)};
    });
  }
  for (const Twin& counts : {drafts, accepted})
    CHECK(mismatch(bench.download(counts), counts.cpu, 0, 0) == "");
  CHECK((t < 5 || drafts.cpu.as<double>()[2] > 0));
}
