#pragma once
// out[n,o] = x[n,k] · W[o,k]ᵀ for the few rows of a decoding step. A BLAS selects its kernel by the sizes, so
// a row's last bits depend on the number of rows. Here the bits of a row's result depend only on that row's
// operands and on W. Tokens that are verified together therefore get the same logits as tokens that are
// verified alone, and ties between logits break in the same way.
//
// Every tile sums in the same order: lane l of a vector accumulates the elements l, l + lanes, … of the depth
// k in order, then a tree adds the lanes. A tile has as many sums as a vector has lanes, for example 1 row by
// 16 outputs, 2 by 8 or 4 by 4, so that add_up_lanes() reduces all of them together.

#include <algorithm>

#include "runtime/operators/vectors_cpu.h"
#include "runtime/stream.h"

namespace foretoken::cpu {

template <class T>
struct FewRows {
  std::int64_t n, o, k;
  const T* x;
  const T* w;
  T* out;           // [n, o] =
  const T* addend;  // [n, o], added to out; may alias out; may be null
};

/// Computes a tile: rows [i, i + Rows) by lanes / Rows outputs from j on. Rows from op.n on and outputs from
/// `end` on are not stored.
template <int Rows, class T>
void few_rows_tile(const FewRows<T>& op, std::int64_t i, std::int64_t j, std::int64_t end) {
  using V = typename VectorOf<T>::type;
  constexpr int n = lanes<T>, outputs = n / Rows;
  const std::int64_t whole = op.k - op.k % n;
  const T *x[Rows], *w[outputs];
  x[0] = op.x + i * op.k;
  w[0] = op.w + j * op.k;
  unrolled<Rows - 1>([&](auto r) { x[r + 1] = x[r] + (i + r + 1 < op.n ? op.k : 0); });
  unrolled<outputs - 1>([&](auto c) { w[c + 1] = w[c] + (j + c + 1 < end ? op.k : 0); });
  V sum[n] = {};
  const auto add = [&](const auto& load, std::int64_t p) __attribute__((always_inline)) {
    V row[Rows];
    unrolled<Rows>([&](auto r) { row[r] = load(x[r] + p); });
    unrolled<outputs>([&](auto c) {
      const V column = load(w[c] + p);
      // Prefetches the next tile's rows of W. With one row of x there is too little arithmetic to hide the
      // prefetch: it costs more than it saves if W is in the cache.
      if constexpr (Rows > 1) __builtin_prefetch(w[c] + outputs * op.k + p);
      unrolled<Rows>(
          [&](auto r) { sum[r * outputs + c] = multiply_add<T>(row[r], column, sum[r * outputs + c]); });
    });
  };
  for (std::int64_t p = 0; p < whole; p += n) add([](const T* from) { return load_vector(from); }, p);
  if (whole < op.k) add([&](const T* from) { return load_some(from, op.k - whole); }, whole);
  add_up_lanes<n / 2>(sum);
  T sums[n];
  std::memcpy(sums, &sum[0], sizeof(V));
  const auto store = [&](auto count) __attribute__((always_inline)) {
    for (int r = 0; r < Rows && i + r < op.n; ++r) {
      const std::int64_t at = (i + r) * op.o + j;
      T* of_row = sums + r * outputs;
      if (op.addend)
        for (std::int64_t c = 0; c < count; ++c) of_row[c] += op.addend[at + c];
      std::memcpy(op.out + at, of_row, static_cast<std::size_t>(count) * sizeof(T));
    }
  };
  if (j + outputs <= end)
    store(std::integral_constant<std::int64_t, outputs>{});
  else
    store(end - j);
}

/// Computes outputs [j, end) of rows [i, i + Rows).
template <int Rows, class T>
void few_rows_block(const FewRows<T>& op, std::int64_t i, std::int64_t j, std::int64_t end) {
  for (; j < end; j += lanes<T> / Rows) few_rows_tile<Rows>(op, i, j, end);
}

template <class T>
void few_rows_product(Stream& stream, const FewRows<T>& op) {
  constexpr std::int64_t worth_a_thread = 1
                                          << 13;  // multiply-adds that take longer than waking a thread, 1 µs
  constexpr std::int64_t block = 64;              // outputs: their rows of W stay in cache for all rows of x
  const std::int64_t grain =
      std::max<std::int64_t>(1, worth_a_thread / (block * std::max<std::int64_t>(op.n * op.k, 1)));
  const auto blocks = [&](std::int64_t begin, std::int64_t last) {
    for (std::int64_t j = begin * block; j < last * block; j += block) {
      const std::int64_t end = std::min(j + block, op.o);
      std::int64_t i = 0;
      if constexpr (lanes<T> >= 4)
        for (; i + 2 < op.n; i += 4) few_rows_block<4>(op, i, j, end);
      for (; i + 1 < op.n; i += 2) few_rows_block<2>(op, i, j, end);
      for (; i < op.n; ++i) few_rows_block<1>(op, i, j, end);
    }
  };
  stream.threads().parallel_for((op.o + block - 1) / block, grain, blocks);
}

}  // namespace foretoken::cpu
