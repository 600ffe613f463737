#include "runtime/cuda/context.h"
#include "runtime/cuda/matmul.h"
#include "runtime/operators/products/quantized_product.h"

namespace foretoken::cuda {

void quantized_product(Stream& stream, const QuantizedProduct& op) {
  stream.cuda().matmul().run({.transpose_b = true,
                              .m = op.a.data.shape[0],
                              .n = op.b.data.shape[0],
                              .k = op.a.data.shape[1],
                              .a = op.a.data,
                              .b = op.b.data,
                              .a_scales = {op.a.scales, op.a.scaling},
                              .b_scales = {op.b.scales, op.b.scaling},
                              .fast_accumulation = op.fast_accumulation,
                              .c = op.addend,
                              .d = op.out});
}

}  // namespace foretoken::cuda
