#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "runtime/operators/cached_attention.h"
#include "runtime/operators/dispatch.h"
#include "runtime/operators/vector_math.h"

namespace foretoken::cpu {

namespace {

/// One head of one row, over `keys` positions whose keys and values begin at k and v, `stride` apart.
template <class T>
void attend(const T* q, const T* k, const T* v, std::int64_t keys, std::int64_t stride, std::int64_t dim,
            T* out) {
  thread_local std::vector<T> scores;
  scores.resize(static_cast<std::size_t>(keys));
  const T scale = T(1 / std::sqrt(static_cast<double>(dim)));
  T largest = -std::numeric_limits<T>::infinity();
  for (std::int64_t u = 0; u < keys; ++u) {
    T product = 0;
#pragma omp simd reduction(+ : product)
    for (std::int64_t i = 0; i < dim; ++i) product += q[i] * k[u * stride + i];
    scores[static_cast<std::size_t>(u)] = product * scale;
    largest = std::max(largest, product * scale);
  }
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t u = 0; u < keys; ++u) {
    T& score = scores[static_cast<std::size_t>(u)];
    score = exp(score - largest);
    sum += score;
  }
  std::fill_n(out, dim, T(0));
  for (std::int64_t u = 0; u < keys; ++u) {
    const T weight = scores[static_cast<std::size_t>(u)] / sum;
#pragma omp simd
    for (std::int64_t i = 0; i < dim; ++i) out[i] += weight * v[u * stride + i];
  }
}

}  // namespace

void cache_store(Stream& stream, const CacheStore& op) {
  const std::int64_t n = op.cells.elements(), w = op.cache.shape[2];
  if (n == 0) return;
  const std::size_t size = size_of(op.cache.dtype);
  const std::size_t stride = op.x.matrix.bytes() / static_cast<std::size_t>(n);
  const std::size_t bytes = static_cast<std::size_t>(w) * size;
  stream.threads().parallel_for(n, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      std::memcpy(static_cast<std::byte*>(op.cache.data) +
                      static_cast<std::size_t>(op.cells.as<std::int32_t>()[row]) * bytes,
                  static_cast<const std::byte*>(op.x.matrix.data) + static_cast<std::size_t>(row) * stride +
                      static_cast<std::size_t>(op.x.first) * size,
                  bytes);
  });
}

void cached_attention(Stream& stream, const CachedAttention& op) {
  const AttentionHeads& h = op.heads;
  const std::int64_t n = op.cells.elements(), places = op.cache.shape[1], width = op.cache.shape[2];
  const std::int64_t qkv_width = (h.query + 2 * h.key_value) * h.dim;
  with_floating("cached_attention", op.qkv.dtype, [&]<class T>() {
    stream.threads().parallel_for(n * h.query, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t row = i / h.query, head = i % h.query, kv_head = head / (h.query / h.key_value);
        const std::int64_t cell = op.cells.as<std::int32_t>()[row];
        const T* keys = op.cache.as<T>() + cell / places * places * width + kv_head * h.dim;
        attend(op.qkv.as<T>() + row * qkv_width + head * h.dim, keys, keys + h.key_value * h.dim,
               cell % places + 1, width, h.dim, op.out.as<T>() + (row * h.query + head) * h.dim);
      }
    });
  });
}

}  // namespace foretoken::cpu
