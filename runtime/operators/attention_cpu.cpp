#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "runtime/operators/attention.h"
#include "runtime/operators/dispatch.h"
#include "runtime/operators/gemm_cpu.h"
#include "runtime/operators/vector_math.h"
#include "runtime/profile.h"

namespace foretoken {

using cpu::gemm;
using cpu::Transpose;

namespace {

constexpr std::int64_t query_block = 64;  // queries that one product of scores takes: their scores stay in L2

/// Where the heads of batch row b lie in a [B, T, width] matrix, and which keys a query may see.
struct Layout {
  AttentionHeads heads;
  std::int64_t b, t, width;
  const std::int32_t* document_start = nullptr;
  std::int64_t document_stride = 0;

  Layout(const char* who, const AttentionHeads& h, const Tensor& qkv, const Tensor& out,
         const Tensor& documents)
      : heads(h), b(qkv.shape[0]), t(qkv.shape[1]), width(qkv.shape[2]) {
    if (width != (h.query + 2 * h.key_value) * h.dim || h.key_value == 0 || h.query % h.key_value != 0 ||
        out.elements() != b * t * h.query * h.dim)
      throw DefectError("{}: qkv {}, out {} do not fit {} query and {} key/value heads of {}", who,
                        to_string(qkv.shape), to_string(out.shape), h.query, h.key_value, h.dim);
    if (!documents.defined()) return;
    if (documents.shape[0] != b || documents.shape[1] < t)
      throw DefectError("{}: document_start {} for {} rows of {}", who, to_string(documents.shape), b, t);
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
  /// Document starts never fall along a row, so the first query of a block sees furthest back.
  std::int64_t first_key(std::int64_t row, std::int64_t position) const {
    return document_start ? std::max(0, document_start[row * document_stride + position]) : 0;
  }
};

/// scores[q, u] = scale · q · k for queries [q0, q1) and keys [k0, q1), unmasked.
template <class T>
void score_block(const Layout& at, const T* q, const T* k, std::int64_t q0, std::int64_t q1, std::int64_t k0,
                 T* scores) {
  gemm(cpu::Gemm<T>{.transpose_b = Transpose::yes,
                    .m = q1 - q0,
                    .n = q1 - k0,
                    .k = at.heads.dim,
                    .a = q + q0 * at.width,
                    .lda = at.width,
                    .b = k + k0 * at.width,
                    .ldb = at.width,
                    .c = scores,
                    .ldc = q1 - k0,
                    .alpha = T(1 / std::sqrt(static_cast<double>(at.heads.dim)))});
}

/// A row of scores over `keys` keys becomes probabilities, zero outside [lo, hi]; returns the log-sum-exp.
template <class T>
T softmax_row(T* row, std::int64_t keys, std::int64_t lo, std::int64_t hi) {
  T largest = -std::numeric_limits<T>::infinity();
#pragma omp simd reduction(max : largest)
  for (std::int64_t u = lo; u <= hi; ++u) largest = std::max(largest, row[u]);
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t u = lo; u <= hi; ++u) {
    row[u] = cpu::exp(row[u] - largest);
    sum += row[u];
  }
  const T inverse = T(1) / sum;
#pragma omp simd
  for (std::int64_t u = lo; u <= hi; ++u) row[u] *= inverse;
  std::fill(row, row + lo, T(0));
  std::fill(row + hi + 1, row + keys, T(0));
  return largest + std::log(sum);
}

/// Scratch of one thread, kept between calls.
template <class T>
T* scratch(int which, std::int64_t elements) {
  thread_local std::vector<T> buffers[2];
  std::vector<T>& buffer = buffers[which];
  if (buffer.size() < static_cast<std::size_t>(elements)) buffer.resize(static_cast<std::size_t>(elements));
  return buffer.data();
}

template <class T>
void forward_head(const Layout& at, const AttentionForward& op, std::int64_t row, std::int64_t head) {
  const T* qkv = op.qkv.as<T>();
  const T* q = qkv + at.query(row, head);
  const T* k = qkv + at.key(row, head / at.group());
  const T* v = qkv + at.value(row, head / at.group());
  T* out = op.out.as<T>() + at.out(row, head);
  T* lse = op.lse.as<T>() + (row * at.heads.query + head) * at.t;
  T* scores = scratch<T>(0, query_block * at.t);
  for (std::int64_t q0 = 0; q0 < at.t; q0 += query_block) {
    const std::int64_t q1 = std::min(at.t, q0 + query_block), k0 = at.first_key(row, q0), keys = q1 - k0;
    score_block(at, q, k, q0, q1, k0, scores);
    for (std::int64_t t = q0; t < q1; ++t)
      lse[t] = softmax_row(scores + (t - q0) * keys, keys, at.first_key(row, t) - k0, t - k0);
    gemm(cpu::Gemm<T>{.m = q1 - q0,
                      .n = at.heads.dim,
                      .k = keys,
                      .a = scores,
                      .lda = keys,
                      .b = v + k0 * at.width,
                      .ldb = at.width,
                      .c = out + q0 * at.out_width(),
                      .ldc = at.out_width()});
  }
}

/// All query heads of one key/value head, so that dK and dV have one writer.
template <class T>
void backward_group(const Layout& at, const AttentionBackward& op, std::int64_t row, std::int64_t kv_head) {
  const T* qkv = op.qkv.as<T>();
  const T* k = qkv + at.key(row, kv_head);
  const T* v = qkv + at.value(row, kv_head);
  T* dk = op.dqkv.as<T>() + at.key(row, kv_head);
  T* dv = op.dqkv.as<T>() + at.value(row, kv_head);
  for (std::int64_t t = 0; t < at.t; ++t) {
    std::fill_n(dk + t * at.width, at.heads.dim, T(0));
    std::fill_n(dv + t * at.width, at.heads.dim, T(0));
  }
  T* p = scratch<T>(0, query_block * at.t);
  T* ds = scratch<T>(1, query_block * at.t);
  const T scale = T(1 / std::sqrt(static_cast<double>(at.heads.dim)));

  for (std::int64_t head = kv_head * at.group(); head < (kv_head + 1) * at.group(); ++head) {
    const T* q = qkv + at.query(row, head);
    const T* out = op.out.as<T>() + at.out(row, head);
    const T* dout = op.dout.as<T>() + at.out(row, head);
    const T* lse = op.lse.as<T>() + (row * at.heads.query + head) * at.t;
    T* dq = op.dqkv.as<T>() + at.query(row, head);
    for (std::int64_t q0 = 0; q0 < at.t; q0 += query_block) {
      const std::int64_t q1 = std::min(at.t, q0 + query_block), k0 = at.first_key(row, q0), keys = q1 - k0;
      score_block(at, q, k, q0, q1, k0, p);
      // dP = dO Vᵀ
      gemm(cpu::Gemm<T>{.transpose_b = Transpose::yes,
                        .m = q1 - q0,
                        .n = keys,
                        .k = at.heads.dim,
                        .a = dout + q0 * at.out_width(),
                        .lda = at.out_width(),
                        .b = v + k0 * at.width,
                        .ldb = at.width,
                        .c = ds,
                        .ldc = keys});
      for (std::int64_t t = q0; t < q1; ++t) {
        T* p_row = p + (t - q0) * keys;
        T* ds_row = ds + (t - q0) * keys;
        const std::int64_t lo = at.first_key(row, t) - k0, hi = t - k0;
        const T* o = out + t * at.out_width();
        const T* d = dout + t * at.out_width();
        T delta = 0;
#pragma omp simd reduction(+ : delta)
        for (std::int64_t i = 0; i < at.heads.dim; ++i) delta += o[i] * d[i];
        const T shift = lse[t];
#pragma omp simd
        for (std::int64_t u = lo; u <= hi; ++u) {
          p_row[u] = cpu::exp(p_row[u] - shift);
          ds_row[u] = p_row[u] * (ds_row[u] - delta) * scale;
        }
        for (T* masked : {p_row, ds_row}) {
          std::fill(masked, masked + lo, T(0));
          std::fill(masked + hi + 1, masked + keys, T(0));
        }
      }
      // dQ = dS K
      gemm(cpu::Gemm<T>{.m = q1 - q0,
                        .n = at.heads.dim,
                        .k = keys,
                        .a = ds,
                        .lda = keys,
                        .b = k + k0 * at.width,
                        .ldb = at.width,
                        .c = dq + q0 * at.width,
                        .ldc = at.width});
      // dK += dSᵀ Q
      gemm(cpu::Gemm<T>{.transpose_a = Transpose::yes,
                        .m = keys,
                        .n = at.heads.dim,
                        .k = q1 - q0,
                        .a = ds,
                        .lda = keys,
                        .b = q + q0 * at.width,
                        .ldb = at.width,
                        .c = dk + k0 * at.width,
                        .ldc = at.width,
                        .beta = 1});
      // dV += Pᵀ dO
      gemm(cpu::Gemm<T>{.transpose_a = Transpose::yes,
                        .m = keys,
                        .n = at.heads.dim,
                        .k = q1 - q0,
                        .a = p,
                        .lda = keys,
                        .b = dout + q0 * at.out_width(),
                        .ldb = at.out_width(),
                        .c = dv + k0 * at.width,
                        .ldc = at.width,
                        .beta = 1});
    }
  }
}

}  // namespace

void attention_forward(Stream& stream, const AttentionForward& op) {
  const ProfileScope scope(stream, "attention_forward");
  const Layout at("attention_forward", op.heads, op.qkv, op.out, op.document_start);
  with_floating("attention_forward", op.qkv.dtype, [&]<class T>() {
    stream.threads().parallel_for(at.b * op.heads.query, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        forward_head<T>(at, op, i / op.heads.query, i % op.heads.query);
    });
  });
}

void attention_backward(Stream& stream, const AttentionBackward& op) {
  const ProfileScope scope(stream, "attention_backward");
  const Layout at("attention_backward", op.heads, op.qkv, op.out, op.document_start);
  with_floating("attention_backward", op.qkv.dtype, [&]<class T>() {
    stream.threads().parallel_for(at.b * op.heads.key_value, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        backward_group<T>(at, op, i / op.heads.key_value, i % op.heads.key_value);
    });
  });
}

}  // namespace foretoken
