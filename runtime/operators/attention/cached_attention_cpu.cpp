#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "runtime/operators/attention/cached_attention.h"
#include "runtime/operators/dispatch.h"
#include "runtime/operators/vector_math.h"
#include "runtime/operators/vectors_cpu.h"

namespace foretoken::cpu {

namespace {

/// The slots of a row's keys. `path` lists the slots of the last `reach` positions, the row's own first; the
/// key of an earlier position is in the slot of that number.
struct Keys {
  std::int64_t count, reach;
  const std::int32_t* path;
  std::int64_t slot_of(std::int64_t position) const {
    const std::int64_t back = count - 1 - position;
    return back < reach ? path[back] : position;
  }
  /// of[j] = address of the cache row of position u + j. Positions after the last one get the last one's row.
  template <int n, class T>
  void find(const T* rows, std::int64_t stride, std::int64_t u, const T* (&of)[n]) const {
    if (u + n <= count - reach)
      unrolled<n>([&](auto j) { of[j] = rows + (u + j) * stride; });
    else
      unrolled<n>([&](auto j) { of[j] = rows + slot_of(std::min<std::int64_t>(u + j, count - 1)) * stride; });
  }
};

/// scores[u] = (q · k_u) · scale, for one vector of keys at a time. The padding to a whole vector repeats the
/// last key's score.
template <class T>
void score_keys(const T* q, const T* k, const Keys& keys, std::int64_t stride, std::int64_t dim, T scale,
                T* scores) {
  using V = typename VectorOf<T>::type;
  constexpr int n = lanes<T>;
  const std::int64_t whole = dim - dim % n;
  for (std::int64_t u = 0; u < keys.count; u += n) {
    const T* key[n];
    keys.find(k, stride, u, key);
    V sum[n] = {};
    for (std::int64_t i = 0; i < whole; i += n) {
      const V part = load_vector(q + i);
      unrolled<n>([&](auto j) { sum[j] = multiply_add<T>(part, load_vector(key[j] + i), sum[j]); });
    }
    if (whole < dim) {
      const V part = load_some(q + whole, dim - whole);
      unrolled<n>(
          [&](auto j) { sum[j] = multiply_add<T>(part, load_some(key[j] + whole, dim - whole), sum[j]); });
    }
    add_up_lanes<n / 2>(sum);
    sum[0] *= scale;
    std::memcpy(scores + u, &sum[0], sizeof(V));
  }
}

/// Softmax of scores[0, count), in place. The padding to a whole vector becomes 0. Maximum and sum are
/// computed per lane first and then over the lanes, so that their order is fixed.
template <class T>
void softmax(T* scores, std::int64_t count) {
  constexpr int n = lanes<T>;
  const std::int64_t end = padded<T>(count);
  T largest[n], sum[n] = {};
  std::fill_n(largest, n, -std::numeric_limits<T>::infinity());
  std::fill(scores + count, scores + end, scores[count - 1]);
  for (std::int64_t u = 0; u < end; u += n)
#pragma omp simd
    for (int l = 0; l < n; ++l) largest[l] = scores[u + l] > largest[l] ? scores[u + l] : largest[l];
  const T most = *std::max_element(largest, largest + n);
  for (std::int64_t u = 0; u < end; u += n)
#pragma omp simd
    for (int l = 0; l < n; ++l) scores[u + l] = exp(scores[u + l] - most);
  std::fill(scores + count, scores + end, T(0));
  for (std::int64_t u = 0; u < end; u += n)
#pragma omp simd
    for (int l = 0; l < n; ++l) sum[l] += scores[u + l];
  T all = 0;
  for (const T each : sum) all += each;
  const T scale = 1 / all;
  for (std::int64_t u = 0; u < end; u += n)
#pragma omp simd
    for (int l = 0; l < n; ++l) scores[u + l] *= scale;
}

/// Columns [i, i + vectors·lanes) of out = Σᵤ weights[u] · v_u. Four sums per column run in parallel, one for
/// every fourth key, and are added at the end. Weights past the last key are 0. If the last vector is
/// partial, `vectors` is 1 and `width` is its number of elements.
template <int vectors, class T>
void add_values(const T* weights, const T* v, const Keys& keys, std::int64_t stride, std::int64_t i,
                std::int64_t width, T* out) {
  using V = typename VectorOf<T>::type;
  constexpr int n = lanes<T>, unroll = 4;
  V sum[vectors * unroll] = {};
  const auto add = [&](const auto& load) __attribute__((always_inline)) {
    for (std::int64_t u = 0; u < keys.count; u += unroll) {
      const T* value[unroll];
      keys.find(v + i, stride, u, value);
      unrolled<unroll>([&](auto j) {
        const V weight = repeated(weights[u + j]);
        unrolled<vectors>([&](auto c) {
          V& at = sum[c * unroll + j];
          at = multiply_add<T>(load(value[j] + c * n), weight, at);
        });
      });
    }
  };
  if (width == n)
    add([](const T* from) { return load_vector(from); });
  else
    add([&](const T* from) { return load_some(from, width); });
  unrolled<vectors>([&](auto c) {
    const V* of = sum + c * unroll;
    const V all = (of[0] + of[1]) + (of[2] + of[3]);
    std::memcpy(out + i + c * n, &all, static_cast<std::size_t>(width) * sizeof(T));
  });
}

/// One query head of one row. Slot 0 of the sequence is at k and v; consecutive slots are `stride` elements
/// apart.
template <class T>
void attend(const T* q, const T* k, const T* v, const Keys& keys, std::int64_t stride, std::int64_t dim,
            T* out) {
  constexpr int n = lanes<T>;
  thread_local std::vector<T> scores;
  scores.resize(static_cast<std::size_t>(padded<T>(keys.count)));
  score_keys(q, k, keys, stride, dim, T(1 / std::sqrt(static_cast<double>(dim))), scores.data());
  softmax(scores.data(), keys.count);
  std::int64_t i = 0;
  for (; i + 4 * n <= dim; i += 4 * n) add_values<4>(scores.data(), v, keys, stride, i, n, out);
  for (; i + 2 * n <= dim; i += 2 * n) add_values<2>(scores.data(), v, keys, stride, i, n, out);
  for (; i < dim; i += n)
    add_values<1>(scores.data(), v, keys, stride, i, std::min<std::int64_t>(n, dim - i), out);
}

}  // namespace

void cache_store(Stream& stream, const CacheStore& op) {
  const std::int64_t n = op.slots.elements(), w = op.cache.shape[2];
  if (n == 0) return;
  const std::size_t size = size_of(op.cache.dtype);
  const std::size_t stride = op.x.matrix.bytes() / static_cast<std::size_t>(n);
  const std::size_t bytes = static_cast<std::size_t>(w) * size;
  stream.threads().parallel_for(n, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      std::memcpy(static_cast<std::byte*>(op.cache.data) +
                      static_cast<std::size_t>(op.slots.as<std::int32_t>()[row]) * bytes,
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
  const std::int64_t n = op.slots.elements(), sequence_slots = op.cache.shape[1], width = op.cache.shape[2];
  const std::int64_t qkv_width = (h.query + 2 * h.key_value) * h.dim;
  const std::int64_t reach = op.paths.defined() ? op.paths.shape[1] : 0;
  const auto keys_of = [&](std::int64_t row) {
    if (reach == 0) return Keys{op.slots.as<std::int32_t>()[row] % sequence_slots + 1, 0, nullptr};
    return Keys{op.positions.as<std::int32_t>()[row] + 1, reach, op.paths.as<std::int32_t>() + row * reach};
  };
  with_floating("cached_attention", op.qkv.dtype, [&]<class T>() {
    constexpr std::int64_t worth_a_thread = 1 << 13;  // multiply-adds, as in few_rows_cpu.h
    std::int64_t all = 0;
    for (std::int64_t row = 0; row < n; ++row) all += keys_of(row).count;
    const std::int64_t grain = worth_a_thread * n / (2 * h.dim * std::max<std::int64_t>(all, 1)) + 1;
    // Rows are the inner loop, because the rows of a sequence read the same keys of a head.
    stream.threads().parallel_for(n * h.query, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t row = i % n, head = i / n, kv_head = head / (h.query / h.key_value);
        const std::int64_t slot = op.slots.as<std::int32_t>()[row];
        const T* keys = op.cache.as<T>() + slot / sequence_slots * sequence_slots * width + kv_head * h.dim;
        attend(op.qkv.as<T>() + row * qkv_width + head * h.dim, keys, keys + h.key_value * h.dim,
               keys_of(row), width, h.dim, op.out.as<T>() + (row * h.query + head) * h.dim);
      }
    });
  });
}

}  // namespace foretoken::cpu
