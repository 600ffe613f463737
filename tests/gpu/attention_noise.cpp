#include "tests/gpu/attention_noise.h"

#include <algorithm>
#include <cmath>

#include "tests/support/numeric.h"

namespace foretoken::testing {

namespace {

struct Products {
  double sum = 0, absolute = 0;
};

Products products(const float* a, const float* b, std::int64_t count) {
  Products p;
  for (std::int64_t i = 0; i < count; ++i) {
    const double term = double(a[i]) * b[i];
    p.sum += term;
    p.absolute += std::abs(term);
  }
  return p;
}

/// A sum and the figures that bound its error: Σ|term|, Σ|error of the term| and Σ term².
struct Sum {
  double value = 0, absolute = 0, error = 0, square = 0;
  void add(double term, double term_error) {
    value += term;
    absolute += std::abs(term);
    error += std::abs(term_error);
    square += term * term;
  }
  /// Bound of the error of a sum of `count` terms. With dtype bf16, the terms are rounded to bf16 before they
  /// are added.
  double noise(std::int64_t count, DType dtype) const {
    const double rounding = dtype == DType::bf16 ? rounded_terms(dtype) * std::sqrt(square) : 0;
    return error + sum_roundoff(count) * absolute + rounding;
  }
};

/// Offsets in a fused qkv row.
struct Heads {
  AttentionHeads heads;
  std::int64_t width() const { return (heads.query + 2 * heads.key_value) * heads.dim; }
  std::int64_t group() const { return heads.query / heads.key_value; }
  std::int64_t query(std::int64_t h) const { return h * heads.dim; }
  std::int64_t key(std::int64_t h) const { return (heads.query + h / group()) * heads.dim; }
  std::int64_t value(std::int64_t h) const {
    return (heads.query + heads.key_value + h / group()) * heads.dim;
  }
};

std::int64_t first_key(const Tensor& document_start, std::int64_t b, std::int64_t t) {
  if (!document_start.defined()) return 0;
  return std::max(document_start.as<std::int32_t>()[b * document_start.shape[1] + t], 0);
}

/// Calls f(b, h, t, keys, values) for every query, with the rows of the keys and values that it attends to.
template <class F>
void for_each_query(const Heads& of, const Tensor& qkv, const Tensor& document_start, F f) {
  for (std::int64_t b = 0; b < qkv.shape[0]; ++b)
    for (std::int64_t h = 0; h < of.heads.query; ++h)
      for (std::int64_t t = 0; t < qkv.shape[1]; ++t) {
        std::vector<const float*> keys, values;
        for (std::int64_t u = first_key(document_start, b, t); u <= t; ++u) {
          const float* row = qkv.as<float>() + (b * qkv.shape[1] + u) * of.width();
          keys.push_back(row + of.key(h));
          values.push_back(row + of.value(h));
        }
        f(b, h, t, keys, values);
      }
}

}  // namespace

QueryNoise query_noise(const float* q, const std::vector<const float*>& keys,
                       const std::vector<const float*>& values, std::int64_t dim, DType dtype) {
  const double scale = 1 / std::sqrt(static_cast<double>(dim));
  QueryNoise result;
  double largest = -INFINITY, largest_absolute = 0, range = 0, total = 0;
  for (const float* key : keys) {
    const Products score = products(q, key, dim);
    result.weights.push_back(score.sum * scale);
    largest = std::max(largest, score.sum * scale);
    largest_absolute = std::max(largest_absolute, score.absolute * scale);
    range = std::max(range, std::abs(score.sum * scale));
  }
  for (double& weight : result.weights) total += weight = std::exp(weight - largest);
  for (double& weight : result.weights) weight /= total;
  result.lse = largest + std::log(total);
  // The exponent, score − lse or score − largest in units of log 2, is rounded a few times.
  result.relative = sum_roundoff(dim) * largest_absolute +
                    8 * unit_roundoff(DType::f32) * (2 + range + std::abs(result.lse));
  for (std::int64_t i = 0; i < dim; ++i) {
    Sum sum;
    for (std::size_t u = 0; u < keys.size(); ++u) {
      const double term = result.weights[u] * values[u][i];
      sum.add(term,
              2 * result.relative * term);  // errors of the weight and of the sum of weights that divides it
    }
    result.out.push_back(sum.noise(std::ssize(keys), dtype));
  }
  return result;
}

AttentionForwardNoise attention_noise(Arena& arena, const AttentionForward& op, DType dtype) {
  const Heads of{op.heads};
  const std::int64_t dim = op.heads.dim, time = op.qkv.shape[1];
  const AttentionForwardNoise noise{arena.tensor(DType::f32, op.out.shape),
                                    arena.tensor(DType::f32, op.lse.shape)};
  for_each_query(of, op.qkv, op.document_start,
                 [&](std::int64_t b, std::int64_t h, std::int64_t t, const auto& keys, const auto& values) {
                   const float* q = op.qkv.as<float>() + (b * time + t) * of.width() + of.query(h);
                   const QueryNoise query = query_noise(q, keys, values, dim, dtype);
                   std::copy(query.out.begin(), query.out.end(),
                             noise.out.as<float>() + ((b * time + t) * op.heads.query + h) * dim);
                   noise.lse.as<float>()[(b * op.heads.query + h) * time + t] =
                       static_cast<float>(query.relative);
                 });
  return noise;
}

Tensor attention_noise(Arena& arena, const AttentionBackward& op, DType dtype) {
  const Heads of{op.heads};
  const std::int64_t dim = op.heads.dim, time = op.qkv.shape[1], width = of.width();
  const double scale = 1 / std::sqrt(static_cast<double>(dim));
  std::vector<Sum> sums(static_cast<std::size_t>(op.dqkv.elements()));
  for_each_query(of, op.qkv, op.document_start,
                 [&](std::int64_t b, std::int64_t h, std::int64_t t, const auto& keys, const auto& values) {
                   const std::int64_t row = b * time + t, first = t + 1 - std::ssize(keys);
                   const float* q = op.qkv.as<float>() + row * width + of.query(h);
                   const float* dout = op.dout.as<float>() + (row * op.heads.query + h) * dim;
                   const float* out = op.out.as<float>() + (row * op.heads.query + h) * dim;
                   const QueryNoise query = query_noise(q, keys, values, dim, DType::f32);
                   const Products delta = products(dout, out, dim);
                   for (std::size_t u = 0; u < keys.size(); ++u) {
                     const double p = query.weights[u];
                     const Products dp = products(dout, values[u], dim);
                     const double dscore = p * (dp.sum - delta.sum) * scale;
                     const double dscore_error =
                         2 * query.relative * std::abs(dscore) +
                         p * scale * sum_roundoff(dim) * (dp.absolute + delta.absolute);
                     Sum* at_key = sums.data() + (b * time + first + static_cast<std::int64_t>(u)) * width;
                     Sum* at_query = sums.data() + row * width;
                     for (std::int64_t i = 0; i < dim; ++i) {
                       at_key[of.value(h) + i].add(p * dout[i], 2 * query.relative * p * dout[i]);
                       at_key[of.key(h) + i].add(dscore * q[i], dscore_error * q[i]);
                       at_query[of.query(h) + i].add(dscore * keys[u][i], dscore_error * keys[u][i]);
                     }
                   }
                 });
  const Tensor noise = arena.tensor(DType::f32, op.dqkv.shape);
  const std::int64_t terms = time * of.group();
  for (std::int64_t i = 0; i < noise.elements(); ++i)
    noise.as<float>()[i] = static_cast<float>(sums[static_cast<std::size_t>(i)].noise(terms, dtype));
  if (!op.rope_cos.defined()) return noise;
  for (std::int64_t row = 0; row < op.qkv.shape[0] * time; ++row)
    for (std::int64_t head = 0; head < op.heads.query + op.heads.key_value; ++head)
      for (std::int64_t i = 0; i < dim / 2; ++i) {
        const std::int64_t at = row * width + head * dim + i, other = at + dim / 2;
        const double cos = std::abs(op.rope_cos.as<float>()[row % time * (dim / 2) + i]),
                     sin = std::abs(op.rope_sin.as<float>()[row % time * (dim / 2) + i]);
        const auto before = [&](std::int64_t j) {
          return noise.as<float>()[j] +
                 unit_roundoff(dtype) * std::abs(sums[static_cast<std::size_t>(j)].value);
        };
        const double a = before(at), b = before(other);
        noise.as<float>()[at] = static_cast<float>(cos * a + sin * b);
        noise.as<float>()[other] = static_cast<float>(cos * b + sin * a);
      }
  return noise;
}

}  // namespace foretoken::testing
