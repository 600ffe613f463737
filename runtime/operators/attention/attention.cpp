#include "runtime/operators/attention/attention.h"

#include "runtime/error.h"
#include "runtime/operators/dispatch.h"
#include "runtime/timing/profile.h"

namespace foretoken {

namespace {

void check(const char* who, const AttentionHeads& h, const Tensor& qkv, const Tensor& out, const Tensor& lse,
           const Tensor& documents) {
  const std::int64_t b = qkv.shape[0], t = qkv.shape[1], width = qkv.shape[2];
  if (width != (h.query + 2 * h.key_value) * h.dim || h.key_value == 0 || h.query % h.key_value != 0 ||
      out.elements() != b * t * h.query * h.dim || lse.elements() != b * h.query * t)
    throw DefectError("{}: qkv {}, out {}, lse {} do not fit {} query and {} key/value heads of {}", who,
                      to_string(qkv.shape), to_string(out.shape), to_string(lse.shape), h.query, h.key_value,
                      h.dim);
  if (documents.defined() && (documents.shape[0] != b || documents.shape[1] < t))
    throw DefectError("{}: document_start {} for {} rows of {}", who, to_string(documents.shape), b, t);
}

}  // namespace

void attention_forward(Stream& stream, const AttentionForward& op) {
  const ProfileScope scope(stream, "attention_forward");
  check("attention_forward", op.heads, op.qkv, op.out, op.lse, op.document_start);
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::attention_forward(stream, op);
  cpu::attention_forward(stream, op);
}

void attention_backward(Stream& stream, const AttentionBackward& op) {
  const ProfileScope scope(stream, "attention_backward");
  check("attention_backward", op.heads, op.qkv, op.out, op.lse, op.document_start);
  if (op.dout.elements() != op.out.elements() || op.dqkv.elements() != op.qkv.elements())
    throw DefectError("attention_backward: dout {}, dqkv {} for out {}, qkv {}", to_string(op.dout.shape),
                      to_string(op.dqkv.shape), to_string(op.out.shape), to_string(op.qkv.shape));
  if (op.rope_cos.defined() &&
      (op.rope_cos.shape[0] < op.qkv.shape[1] || 2 * op.rope_cos.shape[1] != op.heads.dim ||
       op.rope_sin.shape != op.rope_cos.shape))
    throw DefectError("attention_backward: rope_cos {}, rope_sin {} for rows of {} with heads of {}",
                      to_string(op.rope_cos.shape), to_string(op.rope_sin.shape), op.qkv.shape[1],
                      op.heads.dim);
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::attention_backward(stream, op);
  cpu::attention_backward(stream, op);
}

}  // namespace foretoken
