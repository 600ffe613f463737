#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "runtime/operators/attention/attention.h"
#include "runtime/operators/dispatch.h"
#include "runtime/operators/tile_product_cpu.h"
#include "runtime/operators/vector_math.h"

namespace foretoken::cpu {

namespace {

/// Queries of a block. A small number keeps their scores in cache and computes few scores above the diagonal;
/// a multiple of tile_rows lets the products use full tiles.
constexpr std::int64_t query_block = 24;

/// Offsets of the heads of a batch row in a [B, T, width] matrix, and the first key that a query attends to.
struct Layout {
  AttentionHeads heads;
  std::int64_t b, t, width;
  const std::int32_t* document_start = nullptr;
  std::int64_t document_stride = 0;

  Layout(const AttentionHeads& h, const Tensor& qkv, const Tensor& documents)
      : heads(h), b(qkv.shape[0]), t(qkv.shape[1]), width(qkv.shape[2]) {
    if (!documents.defined()) return;
    document_start = documents.as<std::int32_t>();
    document_stride = documents.shape[1];
  }

  std::int64_t group() const { return heads.query / heads.key_value; }
  std::int64_t query(std::int64_t row, std::int64_t head) const { return row * t * width + head * heads.dim; }
  std::int64_t key(std::int64_t row, std::int64_t head) const { return query(row, heads.query + head); }
  std::int64_t value(std::int64_t row, std::int64_t head) const { return key(row, heads.key_value + head); }
  std::int64_t out_width() const { return heads.query * heads.dim; }
  std::int64_t out(std::int64_t row, std::int64_t head) const {
    return row * t * out_width() + head * heads.dim;
  }
  /// Document starts are non-decreasing along a row, so a block's first query has the earliest first key.
  std::int64_t first_key(std::int64_t row, std::int64_t position) const {
    return document_start ? std::max(0, document_start[row * document_stride + position]) : 0;
  }
};

/// A block of queries, [q0, q1), and the range of keys that at least one of them attends to, [k0, q1). The
/// scores are [queries, width]; rows are padded to whole vectors.
template <class T>
struct Block {
  std::int64_t q0, q1, k0;  // k0 is a multiple of lanes<T>
  std::int64_t width;

  Block(const Layout& at, std::int64_t row, std::int64_t first)
      : q0(first),
        q1(std::min(at.t, first + query_block)),
        k0(at.first_key(row, first) / lanes<T> * lanes<T>),
        width(padded<T>(q1 - k0)) {}
  std::int64_t queries() const { return q1 - q0; }
  std::int64_t keys() const { return q1 - k0; }
};

/// The keys that query t attends to, [lo, hi] in its row of scores. 32-bit indices, because a SIMD comparison
/// needs lanes as wide as a float.
struct SeenKeys {
  std::int32_t lo, hi;

  template <class T>
  SeenKeys(const Layout& at, const Block<T>& block, std::int64_t row, std::int64_t t)
      : lo(static_cast<std::int32_t>(at.first_key(row, t) - block.k0)),
        hi(static_cast<std::int32_t>(t - block.k0)) {}
};

/// Scratch memory of the calling thread, reused by later calls. `which` selects one of four buffers.
template <class T>
T* scratch(int which, std::int64_t elements) {
  thread_local std::vector<T> buffers[4];
  std::vector<T>& buffer = buffers[which];
  if (buffer.size() < static_cast<std::size_t>(elements)) buffer.resize(static_cast<std::size_t>(elements));
  return buffer.data();
}

/// Transposes one head [T, HS] to [HS, padded T]. The padding is zero.
template <class T>
const T* transposed(const Layout& at, const T* head, T* out) {
  const std::int64_t width = padded<T>(at.t);
  transpose(at.t, at.heads.dim, head, at.width, out, width);
  for (std::int64_t i = 0; i < at.heads.dim; ++i)
    std::fill(out + i * width + at.t, out + (i + 1) * width, T(0));
  return out;
}

/// scores = scale · A · Bᵀ for the block's queries, rows of A [T, HS], and its keys, columns of Bᵀ [HS,
/// padded T].
template <class T>
void score_block(const Layout& at, const Block<T>& block, const T* a, std::int64_t a_row, const T* b_t,
                 T scale, T* scores) {
  tile_product(TileProduct<T>{.m = block.queries(),
                              .n = block.width,
                              .k = at.heads.dim,
                              .a = a + block.q0 * a_row,
                              .a_row = a_row,
                              .b = b_t + block.k0,
                              .ldb = padded<T>(at.t),
                              .c = scores,
                              .ldc = block.width,
                              .scale = scale});
}

/// out = scores · B: the block's queries are rows of out, its keys are rows of B [T, HS].
template <class T>
void gather_values(const Layout& at, const Block<T>& block, const T* scores, const T* b, T* out,
                   std::int64_t out_row) {
  tile_product(TileProduct<T>{.m = block.queries(),
                              .n = at.heads.dim,
                              .k = block.keys(),
                              .a = scores,
                              .a_row = block.width,
                              .b = b + block.k0 * at.width,
                              .ldb = at.width,
                              .c = out + block.q0 * out_row,
                              .ldc = out_row});
}

/// out += scoresᵀ · B: the block's keys are rows of out, its queries are rows of B [T, HS].
template <class T>
void scatter_gradients(const Layout& at, const Block<T>& block, const T* scores, const T* b,
                       std::int64_t b_row, T* out) {
  tile_product(TileProduct<T>{.m = block.keys(),
                              .n = at.heads.dim,
                              .k = block.queries(),
                              .a = scores,
                              .a_row = 1,
                              .a_column = block.width,
                              .b = b + block.q0 * b_row,
                              .ldb = b_row,
                              .c = out + block.k0 * at.width,
                              .ldc = at.width,
                              .accumulate = true});
}

template <class T>
struct SoftmaxRow {
  T largest, sum;
};

/// Replaces each score in [lo, hi] by exp(score − largest) and the others by zero. Returns the largest score
/// and the sum of the results.
template <class T>
SoftmaxRow<T> exponentiate(T* scores, std::int64_t width, SeenKeys seen) {
  const std::int32_t lo = seen.lo, hi = seen.hi;
  const auto end = static_cast<std::int32_t>(width);
  T largest = -std::numeric_limits<T>::infinity();
#pragma omp simd reduction(max : largest)
  for (std::int32_t u = 0; u < end; ++u)
    largest = std::max(largest, u >= lo && u <= hi ? scores[u] : -std::numeric_limits<T>::infinity());
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int32_t u = 0; u < end; ++u) {
    const T e = exp(scores[u] - largest);
    scores[u] = u >= lo && u <= hi ? e : T(0);
    sum += scores[u];
  }
  return {largest, sum};
}

template <class T>
void forward_head(const Layout& at, const AttentionForward& op, std::int64_t row, std::int64_t head) {
  const T* qkv = op.qkv.as<T>();
  const T* q = qkv + at.query(row, head);
  const T* v = qkv + at.value(row, head / at.group());
  T* out = op.out.as<T>() + at.out(row, head);
  T* lse = op.lse.as<T>() + (row * at.heads.query + head) * at.t;
  T* scores = scratch<T>(0, query_block * padded<T>(at.t));
  const T* k_t =
      transposed(at, qkv + at.key(row, head / at.group()), scratch<T>(2, at.heads.dim * padded<T>(at.t)));
  const T scale = T(1 / std::sqrt(static_cast<double>(at.heads.dim)));
  for (std::int64_t q0 = 0; q0 < at.t; q0 += query_block) {
    const Block<T> block(at, row, q0);
    score_block(at, block, q, at.width, k_t, scale, scores);
    std::array<T, query_block> inverse;
    for (std::int64_t t = q0; t < block.q1; ++t) {
      const auto [largest, sum] =
          exponentiate(scores + (t - q0) * block.width, block.width, SeenKeys(at, block, row, t));
      lse[t] = largest + std::log(sum);
      inverse[static_cast<std::size_t>(t - q0)] = T(1) / sum;
    }
    gather_values(at, block, scores, v, out, at.out_width());
    for (std::int64_t t = q0; t < block.q1; ++t)
      for (std::int64_t i = 0; i < at.heads.dim; ++i)
        out[t * at.out_width() + i] *= inverse[static_cast<std::size_t>(t - q0)];
  }
}

/// Processes all query heads of one key/value head, so that one thread writes dK and dV.
template <class T>
void backward_group(const Layout& at, const AttentionBackward& op, std::int64_t row, std::int64_t kv_head) {
  const T* qkv = op.qkv.as<T>();
  const T* k = qkv + at.key(row, kv_head);
  T* dk = op.dqkv.as<T>() + at.key(row, kv_head);
  T* dv = op.dqkv.as<T>() + at.value(row, kv_head);
  for (std::int64_t t = 0; t < at.t; ++t) {
    std::fill_n(dk + t * at.width, at.heads.dim, T(0));
    std::fill_n(dv + t * at.width, at.heads.dim, T(0));
  }
  T* p = scratch<T>(0, query_block * padded<T>(at.t));
  T* ds = scratch<T>(1, query_block * padded<T>(at.t));
  const T* k_t = transposed(at, k, scratch<T>(2, at.heads.dim * padded<T>(at.t)));
  const T* v_t = transposed(at, qkv + at.value(row, kv_head), scratch<T>(3, at.heads.dim * padded<T>(at.t)));
  const T scale = T(1 / std::sqrt(static_cast<double>(at.heads.dim)));

  for (std::int64_t head = kv_head * at.group(); head < (kv_head + 1) * at.group(); ++head) {
    const T* q = qkv + at.query(row, head);
    const T* out = op.out.as<T>() + at.out(row, head);
    const T* dout = op.dout.as<T>() + at.out(row, head);
    const T* lse = op.lse.as<T>() + (row * at.heads.query + head) * at.t;
    T* dq = op.dqkv.as<T>() + at.query(row, head);
    for (std::int64_t q0 = 0; q0 < at.t; q0 += query_block) {
      const Block<T> block(at, row, q0);
      score_block(at, block, q, at.width, k_t, scale, p);
      score_block(at, block, dout, at.out_width(), v_t, T(1), ds);  // dP = dO Vᵀ
      for (std::int64_t t = q0; t < block.q1; ++t) {
        T* p_row = p + (t - q0) * block.width;
        T* ds_row = ds + (t - q0) * block.width;
        const T* o = out + t * at.out_width();
        const T* d = dout + t * at.out_width();
        T delta = 0;
#pragma omp simd reduction(+ : delta)
        for (std::int64_t i = 0; i < at.heads.dim; ++i) delta += o[i] * d[i];
        const T shift = lse[t];
        const SeenKeys seen(at, block, row, t);
        const std::int32_t lo = seen.lo, hi = seen.hi, end = static_cast<std::int32_t>(block.width);
#pragma omp simd
        for (std::int32_t u = 0; u < end; ++u) {
          const T e = exp(p_row[u] - shift);
          p_row[u] = u >= lo && u <= hi ? e : T(0);
          ds_row[u] = p_row[u] * (ds_row[u] - delta) * scale;
        }
      }
      gather_values(at, block, ds, k, dq, at.width);              // dQ = dS K
      scatter_gradients(at, block, ds, q, at.width, dk);          // dK += dSᵀ Q
      scatter_gradients(at, block, p, dout, at.out_width(), dv);  // dV += Pᵀ dO
    }
  }
}

}  // namespace

void attention_forward(Stream& stream, const AttentionForward& op) {
  const Layout at(op.heads, op.qkv, op.document_start);
  with_floating("attention_forward", op.qkv.dtype, [&]<class T>() {
    stream.threads().parallel_for(at.b * op.heads.query, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        forward_head<T>(at, op, i / op.heads.query, i % op.heads.query);
    });
  });
}

void attention_backward(Stream& stream, const AttentionBackward& op) {
  const Layout at(op.heads, op.qkv, op.document_start);
  with_floating("attention_backward", op.qkv.dtype, [&]<class T>() {
    stream.threads().parallel_for(at.b * op.heads.key_value, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        backward_group<T>(at, op, i / op.heads.key_value, i % op.heads.key_value);
    });
  });
  if (op.rope_cos.defined()) cpu::rope(stream, rope_of(op));
}

}  // namespace foretoken::cpu
