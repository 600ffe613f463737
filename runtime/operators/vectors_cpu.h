#pragma once
// Sums over vectors whose order, and so whose last bits, is what the code says: not what a compiler makes of
// a loop.

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "runtime/operators/tile_product_cpu.h"

namespace foretoken::cpu {

/// a · b + c, rounded once wherever the processor can: left to a compiler, that is so in one tile and not in
/// another.
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

/// Adds up lanes: of 2·left vectors the first `left` get the halves of two, i and i + left, interleaved,
/// until element i of x[0] is the sum of what was x[i].
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

/// In all lanes; to take zero away leaves every number as it is, to add it does not.
template <class T>
typename VectorOf<T>::type repeated(T value) {
  return value - typename VectorOf<T>::type{};
}

/// The first `count` of them, zeros after.
template <class T>
typename VectorOf<T>::type load_some(const T* from, std::int64_t count) {
  typename VectorOf<T>::type value = {};
  for (std::int64_t i = 0; i < count; ++i) value[i] = from[i];
  return value;
}

}  // namespace foretoken::cpu
