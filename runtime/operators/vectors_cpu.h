#pragma once
// Vector sums in an order that the code fixes. A compiler that vectorises a loop selects an order of its own,
// which changes the last bits.

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "runtime/operators/tile_product_cpu.h"

namespace foretoken::cpu {

/// a · b + c, rounded once if the target has FMA. Intrinsics, because a compiler would contract the
/// expression in some tiles and not in others.
template <class T>
typename VectorOf<T>::type multiply_add(typename VectorOf<T>::type a, typename VectorOf<T>::type b,
                                        typename VectorOf<T>::type c) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return _mm512_fmadd_ps(a, b, c);
  if constexpr (sizeof(T) == 8) return _mm512_fmadd_pd(a, b, c);
#elif defined(__AVX__) && defined(__FMA__)
  if constexpr (sizeof(T) == 4) return _mm256_fmadd_ps(a, b, c);
  if constexpr (sizeof(T) == 8) return _mm256_fmadd_pd(a, b, c);
#else
  return a * b + c;
#endif
}

/// Sums the lanes of each of n vectors of n lanes: element i of the final x[0] is the sum of the lanes of the
/// original x[i]. A step adds the halves of vectors i and i + left, interleaved, so that 2·left vectors
/// become `left`. Call with left = n / 2.
template <int left, class V, int n>
[[gnu::always_inline]] inline void add_up_lanes(V (&x)[n]) {
  [&]<int... l>(std::integer_sequence<int, l...>) {
    unrolled<left>([&](auto i) {
      x[i] = __builtin_shufflevector(x[i], x[i + left], (l / 2 + l % 2 * n)...) +
             __builtin_shufflevector(x[i], x[i + left], (n / 2 + l / 2 + l % 2 * n)...);
    });
  }
  (std::make_integer_sequence<int, n>{});
  if constexpr (left > 1) add_up_lanes<left / 2>(x);
}

template <class T>
typename VectorOf<T>::type load_vector(const T* from) {
  typename VectorOf<T>::type value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

/// Returns `value` in all lanes. Subtracts a zero vector, because adding one would change −0 to +0.
template <class T>
typename VectorOf<T>::type repeated(T value) {
  return value - typename VectorOf<T>::type{};
}

/// Loads the first `count` elements; the remaining lanes are zero.
template <class T>
typename VectorOf<T>::type load_some(const T* from, std::int64_t count) {
  typename VectorOf<T>::type value = {};
  for (std::int64_t i = 0; i < count; ++i) value[i] = from[i];
  return value;
}

}  // namespace foretoken::cpu
