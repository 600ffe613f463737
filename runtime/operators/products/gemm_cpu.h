#pragma once
// Matrix products on the CPU. The product is split over the rank's threads here, and each thread calls
// single-threaded OpenBLAS on its part. tile_product_cpu.h has the small products inside other operators.

#include <cstdint>

#include "runtime/stream.h"

namespace foretoken::cpu {

enum class Transpose { no, yes };

/// C[m,n] = alpha · op(A)[m,k] · op(B)[k,n] + beta · C, row-major with leading dims lda, ldb, ldc.
template <class T>
struct Gemm {
  Transpose transpose_a = Transpose::no;
  Transpose transpose_b = Transpose::no;
  std::int64_t m, n, k;
  const T* a;
  std::int64_t lda;
  const T* b;
  std::int64_t ldb;
  T* c;
  std::int64_t ldc;
  T alpha = 1;
  T beta = 0;
};

/// Computes the whole product on the calling thread.
void gemm(const Gemm<float>& op);
void gemm(const Gemm<double>& op);

/// Computes the product on the stream's threads, which divide the longer of m and n.
template <class T>
void gemm(Stream& stream, const Gemm<T>& op) {
  constexpr std::int64_t grain = 32;
  const bool by_rows = op.m >= op.n;
  stream.threads().parallel_for(by_rows ? op.m : op.n, grain, [&](std::int64_t begin, std::int64_t end) {
    Gemm<T> part = op;
    if (by_rows) {
      part.m = end - begin;
      part.a = op.a + (op.transpose_a == Transpose::yes ? begin : begin * op.lda);
      part.c = op.c + begin * op.ldc;
    } else {
      part.n = end - begin;
      part.b = op.b + (op.transpose_b == Transpose::yes ? begin * op.ldb : begin);
      part.c = op.c + begin;
    }
    gemm(part);
  });
}

}  // namespace foretoken::cpu
