#include "runtime/operators/products/gemm_cpu.h"

#include <cstdlib>
#include <string_view>

#include <cblas.h>

// These functions of OpenBLAS select its kernels for the processor; it calls them when it is loaded. Weak,
// because an OpenBLAS built for one processor lacks them.
extern "C" {
[[gnu::weak]] void gotoblas_dynamic_init();
[[gnu::weak]] void gotoblas_dynamic_quit();
}

namespace foretoken::cpu {

namespace {

CBLAS_TRANSPOSE blas(Transpose transpose) {
  return transpose == Transpose::yes ? CblasTrans : CblasNoTrans;
}

blasint blas(std::int64_t dim) {
  return static_cast<blasint>(dim);
}

/// Returns the name of the OpenBLAS kernels that fit this processor, or null to keep OpenBLAS's selection.
/// OpenBLAS selects by model number. On a processor newer than the library it falls back to SSE3 kernels
/// ("Prescott"), which are five to seven times slower.
const char* better_kernels() {
#if defined(__x86_64__)
  if (!gotoblas_dynamic_init || !gotoblas_dynamic_quit || std::getenv("OPENBLAS_CORETYPE")) return nullptr;
  if (std::string_view(openblas_get_corename()) != "Prescott") return nullptr;
  if (__builtin_cpu_supports("avx512bf16")) return "Cooperlake";
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) return "SkylakeX";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "Haswell";
#endif
  return nullptr;
}

[[maybe_unused]] const bool blas_is_set_up = [] {
  if (const char* kernels = better_kernels()) {
    setenv("OPENBLAS_CORETYPE", kernels, 1);
    gotoblas_dynamic_quit();
    gotoblas_dynamic_init();
  }
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
