#include <cmath>
#include <limits>
#include <type_traits>

#include "runtime/cuda/context.h"
#include "runtime/error.h"
#include "runtime/operators/attention/flash_attention.h"
#include "runtime/operators/attention/flash_attention_kernels.h"

namespace foretoken::cuda {

namespace {

flash::Problem problem_of(const char* who, const AttentionHeads& heads, const Tensor& qkv,
                          const Tensor& documents) {
  const std::int64_t b = qkv.shape[0], t = qkv.shape[1];
  if (heads.dim < 2 || heads.dim > 256 || heads.dim % 2 != 0)
    throw DefectError("{}: heads of {}, expected an even size of at most 256", who, heads.dim);
  if (b * t * heads.query > std::numeric_limits<std::int32_t>::max())
    throw DefectError("{}: {} rows of {} with {} heads exceed the rows of one launch", who, b, t,
                      heads.query);
  flash::Problem p{.rows = static_cast<int>(b),
                   .time = static_cast<int>(t),
                   .heads = static_cast<int>(heads.query),
                   .kv_heads = static_cast<int>(heads.key_value),
                   .dim = static_cast<int>(heads.dim),
                   .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(heads.dim)))};
  if (documents.defined()) {
    p.document_start = documents.as<std::int32_t>();
    p.document_stride = documents.shape[1];
  }
  return p;
}

/// Whether the tensor-core kernels support the head size.
bool suits_tensor_cores(const flash::Problem& p) {
  return p.dim % 32 == 0 && p.dim <= 128;
}

/// Bytes of delta in backward's workspace, rounded up to 256. The sums of dQ follow it.
std::size_t delta_bytes(const Tensor& lse) {
  return (static_cast<std::size_t>(lse.elements()) * sizeof(float) + 255) / 256 * 256;
}

/// Bytes of the f32 sums of dQ; 0 if the kernels that sum in a fixed order run.
std::size_t sums_bytes(const AttentionBackward& op, bool deterministic) {
  const bool sums =
      !deterministic && op.qkv.dtype == DType::bf16 && (op.heads.dim == 64 || op.heads.dim == 128);
  const flash::Problem p{.time = static_cast<int>(op.qkv.shape[1])};
  return sums ? static_cast<std::size_t>(op.qkv.shape[0] * op.heads.query * p.padded_time() * op.heads.dim) *
                    sizeof(float)
              : 0;
}

/// Calls f with a null pointer of the device type that holds the tensor's elements.
template <class F>
void with_device_type(const char* who, const Tensor& tensor, F f) {
  if (tensor.dtype == DType::bf16)
    f(static_cast<__nv_bfloat16*>(nullptr));
  else if (tensor.dtype == DType::f32)
    f(static_cast<float*>(nullptr));
  else
    throw DefectError("{}: qkv has dtype {}, expected bf16 or f32", who, name_of(tensor.dtype));
}

template <class T>
T* data_of(const char* who, const Tensor& tensor, const Tensor& like) {
  if (tensor.dtype != like.dtype)
    throw DefectError("{}: a tensor {} has dtype {}, expected that of qkv, {}", who, to_string(tensor.shape),
                      name_of(tensor.dtype), name_of(like.dtype));
  return static_cast<T*>(tensor.data);
}

}  // namespace

void flash_attention_forward(Stream& stream, const AttentionForward& op) {
  const char* who = "flash_attention_forward";
  const flash::Problem p = problem_of(who, op.heads, op.qkv, op.document_start);
  if (op.qkv.elements() == 0) return;
  with_device_type(who, op.qkv, [&]<class T>(T*) {
    const T* qkv = data_of<T>(who, op.qkv, op.qkv);
    T* out = data_of<T>(who, op.out, op.qkv);
    float* lse = op.lse.as<float>();
    if constexpr (std::is_same_v<T, __nv_bfloat16>)
      if (suits_tensor_cores(p) && op.qkv.is_aligned() && op.out.is_aligned())
        return flash::forward_bf16(stream.cuda().stream(), p, qkv, out, lse);
    flash::forward_generic(stream.cuda().stream(), p, qkv, out, lse);
  });
}

void flash_attention_backward(Stream& stream, const AttentionBackward& op) {
  const char* who = "flash_attention_backward";
  flash::Problem p = problem_of(who, op.heads, op.qkv, op.document_start);
  if (op.qkv.elements() == 0) return;
  Context& gpu = stream.cuda();
  const std::size_t sums_size = sums_bytes(op, gpu.deterministic());
  auto* delta = static_cast<float*>(gpu.workspace(delta_bytes(op.lse) + sums_size));
  float* sums = sums_size > 0 ? delta + delta_bytes(op.lse) / sizeof(float) : nullptr;
  with_device_type(who, op.qkv, [&]<class T>(T*) {
    const flash::BackwardTensors<T> tensors{.dout = data_of<T>(who, op.dout, op.qkv),
                                            .qkv = data_of<T>(who, op.qkv, op.qkv),
                                            .lse = op.lse.as<float>(),
                                            .delta = delta,
                                            .dqkv = data_of<T>(who, op.dqkv, op.qkv)};
    flash::output_dot(gpu.stream(), p, tensors.dout, data_of<const T>(who, op.out, op.qkv), delta);
    if constexpr (std::is_same_v<T, __nv_bfloat16>)
      if (suits_tensor_cores(p) && op.qkv.is_aligned() && op.dout.is_aligned() && op.dqkv.is_aligned() &&
          op.rope_cos.is_aligned() && op.rope_sin.is_aligned()) {
        if (op.rope_cos.defined()) {
          p.rope_cos = op.rope_cos.as<float>();
          p.rope_sin = op.rope_sin.as<float>();
        }
        return flash::backward_bf16(gpu.stream(), p, tensors, sums);
      }
    flash::backward_generic(gpu.stream(), p, tensors);
    if (op.rope_cos.defined()) cuda::rope(stream, rope_of(op));
  });
}

}  // namespace foretoken::cuda
