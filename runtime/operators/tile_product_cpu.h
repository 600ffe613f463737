#pragma once
// Small matrix products for use inside other operators, on the calling thread. A BLAS call packs its operands
// and dispatches, which costs more than the product itself if k or n is one head's dimension. Here each tile
// of C stays in registers and the operands are read in place.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace foretoken::cpu {

#if defined(__AVX512F__)
inline constexpr std::size_t vector_bytes = 64;
#elif defined(__AVX__)
inline constexpr std::size_t vector_bytes = 32;
#else
inline constexpr std::size_t vector_bytes = 16;
#endif

/// Rows of a tile of C. Six rows by two vectors of C, two vectors of B and one of A fit into 16 vector
/// registers.
inline constexpr int tile_rows = 6;

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(vector_bytes)));  // NOLINT: an alias cannot carry the attribute
};

template <class T>
inline constexpr std::int64_t lanes = static_cast<std::int64_t>(vector_bytes / sizeof(T));

/// C[m,n] = scale · A[m,k] · B[k,n], or C += … if `accumulate`. Element (i, p) of A is at a + i·a_row +
/// p·a_column, so a transposed A swaps the two strides. B and C are row-major. Fastest if n is a multiple of
/// lanes<T>.
template <class T>
struct TileProduct {
  std::int64_t m, n, k;
  const T* a;
  std::int64_t a_row;
  std::int64_t a_column = 1;
  const T* b;
  std::int64_t ldb;
  T* c;
  std::int64_t ldc;
  T scale = 1;
  bool accumulate = false;
};

/// Rounds a number of elements up to whole vectors.
template <class T>
std::int64_t padded(std::int64_t elements) {
  return (elements + lanes<T> - 1) / lanes<T> * lanes<T>;
}

/// Calls body(i) for i = 0 … N − 1, passed as std::integral_constant. GCC keeps an array in registers only if
/// every index into it is a constant, which a loop variable is not.
template <int N>
void unrolled(const auto& body) {
  [&]<int... i>(std::integer_sequence<int, i...>) {
    (body(std::integral_constant<int, i>{}), ...);
  }
  (std::make_integer_sequence<int, N>{});
}

/// Computes the tile of C at (i, j), of Rows rows and Vectors vectors V. V is T in the columns that do not
/// fill a vector.
template <class V, int Rows, int Vectors, class T>
void product_tile(const TileProduct<T>& op, std::int64_t i, std::int64_t j) {
  constexpr std::int64_t width = sizeof(V) / sizeof(T);
  const T* a = op.a + i * op.a_row;
  const T* b = op.b + j;
  V sum[Rows * Vectors] = {};
  for (std::int64_t p = 0; p < op.k; ++p, a += op.a_column, b += op.ldb) {
    V b_row[Vectors];
    unrolled<Vectors>([&](auto v) { std::memcpy(&b_row[v], b + v * width, sizeof(V)); });
    unrolled<Rows * Vectors>([&](auto s) { sum[s] += a[s / Vectors * op.a_row] * b_row[s % Vectors]; });
  }
  unrolled<Rows * Vectors>(
      [&, c = op.c + i * op.ldc + j, ldc = op.ldc, scale = op.scale, accumulate = op.accumulate](auto s) {
        T* at = c + s / Vectors * ldc + s % Vectors * width;
        V value = sum[s] * scale;
        if (accumulate) {
          V before;
          std::memcpy(&before, at, sizeof(V));
          value += before;
        }
        std::memcpy(at, &value, sizeof(V));
      });
}

/// Computes rows [i, i + Rows) of C, two vectors at a time.
template <int Rows, class T>
void product_rows(const TileProduct<T>& op, std::int64_t i) {
  using V = typename VectorOf<T>::type;
  std::int64_t j = 0;
  for (; j + 2 * lanes<T> <= op.n; j += 2 * lanes<T>) product_tile<V, Rows, 2>(op, i, j);
  for (; j + lanes<T> <= op.n; j += lanes<T>) product_tile<V, Rows, 1>(op, i, j);
  for (; j < op.n; ++j) product_tile<T, Rows, 1>(op, i, j);
}

/// Computes full tiles first, then the remaining rows in pairs, then a single row.
template <class T>
void tile_product(const TileProduct<T>& op) {
  std::int64_t i = 0;
  for (; i + tile_rows <= op.m; i += tile_rows) product_rows<tile_rows>(op, i);
  for (; i + 2 <= op.m; i += 2) product_rows<2>(op, i);
  for (; i < op.m; ++i) product_rows<1>(op, i);
}

/// out[j, i] = in[i, j] for a square of lanes<T> rows and columns. Each of the log₂ lanes passes interleaves
/// rows i and i + lanes / 2.
template <class T>
void transpose_square(const T* in, std::int64_t ld_in, T* out, std::int64_t ld_out) {
  using V = typename VectorOf<T>::type;
  constexpr int n = lanes<T>;
  V x[n];
  unrolled<n>([&](auto i) { std::memcpy(&x[i], in + i * ld_in, sizeof(V)); });
  for (int done = 1; done < n; done *= 2) {
    V y[n];
    [&]<int... l>(std::integer_sequence<int, l...>) {
      unrolled<n / 2>([&](auto i) {
        y[2 * i] = __builtin_shufflevector(x[i], x[i + n / 2], (l / 2 + l % 2 * n)...);
        y[2 * i + 1] = __builtin_shufflevector(x[i], x[i + n / 2], (n / 2 + l / 2 + l % 2 * n)...);
      });
    }
    (std::make_integer_sequence<int, n>{});
    unrolled<n>([&](auto i) { x[i] = y[i]; });
  }
  unrolled<n>([&](auto i) { std::memcpy(out + i * ld_out, &x[i], sizeof(V)); });
}

/// out[n,m] = in[m,n]ᵀ, both row-major with rows ld_out and ld_in elements apart.
template <class T>
void transpose(std::int64_t m, std::int64_t n, const T* in, std::int64_t ld_in, T* out, std::int64_t ld_out) {
  const std::int64_t whole_m = m - m % lanes<T>, whole_n = n - n % lanes<T>;
  for (std::int64_t i = 0; i < whole_m; i += lanes<T>)
    for (std::int64_t j = 0; j < whole_n; j += lanes<T>)
      transpose_square(in + i * ld_in + j, ld_in, out + j * ld_out + i, ld_out);
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = i < whole_m ? whole_n : 0; j < n; ++j) out[j * ld_out + i] = in[i * ld_in + j];
}

}  // namespace foretoken::cpu
