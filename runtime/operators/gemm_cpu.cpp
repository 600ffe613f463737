#include "runtime/operators/gemm_cpu.h"

#include <cblas.h>

namespace foretoken::cpu {

namespace {

CBLAS_TRANSPOSE blas(Transpose transpose) {
  return transpose == Transpose::yes ? CblasTrans : CblasNoTrans;
}

blasint blas(std::int64_t dim) {
  return static_cast<blasint>(dim);
}

[[maybe_unused]] const bool one_blas_thread = [] {
  openblas_set_num_threads(1);
  return true;
}();

}  // namespace

void gemm(const Gemm<float>& op) {
  cblas_sgemm(CblasRowMajor, blas(op.transpose_a), blas(op.transpose_b), blas(op.m), blas(op.n), blas(op.k),
              op.alpha, op.a, blas(op.lda), op.b, blas(op.ldb), op.beta, op.c, blas(op.ldc));
}

void gemm(const Gemm<double>& op) {
  cblas_dgemm(CblasRowMajor, blas(op.transpose_a), blas(op.transpose_b), blas(op.m), blas(op.n), blas(op.k),
              op.alpha, op.a, blas(op.lda), op.b, blas(op.ldb), op.beta, op.c, blas(op.ldc));
}

}  // namespace foretoken::cpu
