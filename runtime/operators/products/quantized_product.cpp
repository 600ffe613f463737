#include "runtime/operators/products/quantized_product.h"

#include "runtime/error.h"
#include "runtime/operators/dispatch.h"
#include "runtime/timing/profile.h"

namespace foretoken {

void quantized_product(Stream& stream, const QuantizedProduct& op) {
  const ProfileScope scope(stream, "quantized_product");
  const std::int64_t m = op.a.data.shape[0], k = op.a.data.shape[1], n = op.b.data.shape[0];
  require_quantized("quantized_product", op.a, m, k);
  require_quantized("quantized_product", op.b, n, k);
  if (op.out.elements() != m * n || (op.addend.defined() && op.addend.elements() != m * n))
    throw DefectError("quantized_product: a {}, b {}, out {} do not fit", to_string(op.a.data.shape),
                      to_string(op.b.data.shape), to_string(op.out.shape));
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::quantized_product(stream, op);
  cpu::quantized_product(stream, op);
}

}  // namespace foretoken
