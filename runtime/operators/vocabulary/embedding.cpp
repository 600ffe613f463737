#include "runtime/operators/vocabulary/embedding.h"

#include "runtime/error.h"
#include "runtime/operators/dispatch.h"
#include "runtime/timing/profile.h"

namespace foretoken {

namespace {

void check(const char* who, const Tensor& tokens, std::int64_t first, const Tensor& table,
           const Tensor& out) {
  const std::int64_t b = out.shape[0], t = out.shape[1], c = out.shape[2], s = tokens.shape[1];
  if (tokens.shape[0] != b || first < 0 || first + t > s || table.shape[1] != c)
    throw DefectError("{}: tokens {} from {}, table {}, out {} do not fit", who, to_string(tokens.shape),
                      first, to_string(table.shape), to_string(out.shape));
}

}  // namespace

void embedding_forward(Stream& stream, const EmbeddingForward& op) {
  const ProfileScope scope(stream, "embedding_forward");
  check("embedding_forward", op.tokens, op.first, op.table, op.out);
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::embedding_forward(stream, op);
  cpu::embedding_forward(stream, op);
}

void embedding_backward_weight(Stream& stream, const EmbeddingBackwardWeight& op) {
  const ProfileScope scope(stream, "embedding_backward_weight");
  check("embedding_backward_weight", op.tokens, op.first, op.dtable, op.dout);
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::embedding_backward_weight(stream, op);
  cpu::embedding_backward_weight(stream, op);
}

}  // namespace foretoken
