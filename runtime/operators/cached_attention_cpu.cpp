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

/// Where a row's keys are: those of its last `reach` positions, its own first, in places of their own.
struct Keys {
  std::int64_t count, reach;
  const std::int32_t* path;
  std::int64_t place(std::int64_t position) const {
    const std::int64_t back = count - 1 - position;
    return back < reach ? path[back] : position;
  }
};

/// One head of one row; keys and values begin at k and v, `stride` apart.
template <class T>
void attend(const T* q, const T* k, const T* v, const Keys& keys, std::int64_t stride, std::int64_t dim,
            T* out) {
  thread_local std::vector<T> scores;
  scores.resize(static_cast<std::size_t>(keys.count));
  const T scale = T(1 / std::sqrt(static_cast<double>(dim)));
  T largest = -std::numeric_limits<T>::infinity();
  for (std::int64_t u = 0; u < keys.count; ++u) {
    const T* key = k + keys.place(u) * stride;
    T product = 0;
#pragma omp simd reduction(+ : product)
    for (std::int64_t i = 0; i < dim; ++i) product += q[i] * key[i];
    scores[static_cast<std::size_t>(u)] = product * scale;
    largest = std::max(largest, product * scale);
  }
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t u = 0; u < keys.count; ++u) {
    T& score = scores[static_cast<std::size_t>(u)];
    score = exp(score - largest);
    sum += score;
  }
  std::fill_n(out, dim, T(0));
  for (std::int64_t u = 0; u < keys.count; ++u) {
    const T weight = scores[static_cast<std::size_t>(u)] / sum;
    const T* value = v + keys.place(u) * stride;
#pragma omp simd
    for (std::int64_t i = 0; i < dim; ++i) out[i] += weight * value[i];
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

void cache_move(Stream& /*stream*/, const CacheMove& op) {
  const std::size_t bytes = static_cast<std::size_t>(op.cache.shape[2]) * size_of(op.cache.dtype);
  auto* cache = static_cast<std::byte*>(op.cache.data);
  for (std::int64_t m = 0; m < op.from.elements(); ++m)
    std::memmove(cache + static_cast<std::size_t>(op.to.as<std::int32_t>()[m]) * bytes,
                 cache + static_cast<std::size_t>(op.from.as<std::int32_t>()[m]) * bytes, bytes);
}

void cached_attention(Stream& stream, const CachedAttention& op) {
  const AttentionHeads& h = op.heads;
  const std::int64_t n = op.cells.elements(), places = op.cache.shape[1], width = op.cache.shape[2];
  const std::int64_t qkv_width = (h.query + 2 * h.key_value) * h.dim;
  const std::int64_t reach = op.paths.defined() ? op.paths.shape[1] : 0;
  const auto keys_of = [&](std::int64_t row) {
    if (reach == 0) return Keys{op.cells.as<std::int32_t>()[row] % places + 1, 0, nullptr};
    return Keys{op.positions.as<std::int32_t>()[row] + 1, reach, op.paths.as<std::int32_t>() + row * reach};
  };
  with_floating("cached_attention", op.qkv.dtype, [&]<class T>() {
    stream.threads().parallel_for(n * h.query, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t row = i / h.query, head = i % h.query, kv_head = head / (h.query / h.key_value);
        const std::int64_t cell = op.cells.as<std::int32_t>()[row];
        const T* keys = op.cache.as<T>() + cell / places * places * width + kv_head * h.dim;
        attend(op.qkv.as<T>() + row * qkv_width + head * h.dim, keys, keys + h.key_value * h.dim,
               keys_of(row), width, h.dim, op.out.as<T>() + (row * h.query + head) * h.dim);
      }
    });
  });
}

}  // namespace foretoken::cpu
