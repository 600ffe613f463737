#include <algorithm>
#include <vector>

#include "runtime/operators/products/gemm_cpu.h"
#include "runtime/operators/products/quantized_product.h"
#include "runtime/operators/rowwise/quantize.h"

namespace foretoken::cpu {

void quantized_product(Stream& stream, const QuantizedProduct& op) {
  const std::int64_t m = op.a.data.shape[0], k = op.a.data.shape[1], n = op.b.data.shape[0];
  const std::vector<float> a = dequantized(stream, op.a), b = dequantized(stream, op.b);
  float* out = op.out.as<float>();
  if (op.addend.defined() && op.addend.data != op.out.data)
    std::copy_n(op.addend.as<float>(), op.addend.elements(), out);
  gemm<float>(stream, {.transpose_b = Transpose::yes,
                       .m = m,
                       .n = n,
                       .k = k,
                       .a = a.data(),
                       .lda = k,
                       .b = b.data(),
                       .ldb = k,
                       .c = out,
                       .ldc = n,
                       .beta = op.addend.defined() ? 1.0F : 0.0F});
}

}  // namespace foretoken::cpu
