// Makes the matrix products of one rank take five times as long: computes each of them five times. Loaded
// with LD_PRELOAD; the environment variable SLOW_PRODUCTS_RANK is the rank.

#include <cstdlib>
#include <cstring>
#include <dlfcn.h>

extern "C" void cblas_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha,
                            const float* a, int lda, const float* b, int ldb, float beta, float* c, int ldc) {
  static const auto original = reinterpret_cast<decltype(&cblas_sgemm)>(dlsym(RTLD_NEXT, "cblas_sgemm"));
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  const char* slow = std::getenv("SLOW_PRODUCTS_RANK");
  const int times = rank && slow && std::strcmp(rank, slow) == 0 ? 5 : 1;
  for (int i = 0; i < times; ++i)
    original(order, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
