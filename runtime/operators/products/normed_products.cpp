#include "runtime/operators/products/normed_products.h"

#include "runtime/error.h"
#include "runtime/operators/dispatch.h"
#include "runtime/operators/products/linear.h"
#include "runtime/operators/products/linear_swiglu.h"
#include "runtime/operators/rowwise/rms_norm.h"
#include "runtime/operators/rowwise/rope.h"
#include "runtime/timing/profile.h"

namespace foretoken {

namespace {

std::int64_t check(const char* who, const NormedRows& rows, const Tensor& weight) {
  const std::int64_t c = rows.weight.elements(), n = rows.rstd.elements();
  if (weight.shape.rank() != 2 || weight.shape[1] != c || rows.x.elements() != n * c ||
      rows.normed.elements() != n * c)
    throw DefectError("{}: x {}, norm {}, weight {}, normed {} do not fit {} rows", who,
                      to_string(rows.x.shape), to_string(rows.weight.shape), to_string(weight.shape),
                      to_string(rows.normed.shape), n);
  return n;
}

void norm(Stream& stream, const NormedRows& rows) {
  rms_norm_forward(
      stream, {.x = rows.x, .weight = rows.weight, .eps = rows.eps, .out = {rows.normed}, .rstd = rows.rstd});
}

}  // namespace

void normed_qkv(Stream& stream, const NormedQkv& op) {
  const ProfileScope scope(stream, "normed_qkv");
  const std::int64_t n = check("normed_qkv", op.rows, op.weight);
  const AttentionHeads& h = op.heads;
  const std::int64_t width = (h.query + 2 * h.key_value) * h.dim;
  if (op.weight.shape[0] != width || op.qkv.elements() != n * width || op.positions.elements() != n ||
      op.slots.elements() != n || op.cos.shape[1] * 2 != h.dim || op.sin.shape != op.cos.shape ||
      op.cache.shape.rank() != 3 || op.cache.shape[2] != 2 * h.key_value * h.dim)
    throw DefectError(
        "normed_qkv: weight {}, qkv {}, {} positions, {} slots, table {}, cache {} do not fit {} rows of {} "
        "query and {} key/value heads of {}",
        to_string(op.weight.shape), to_string(op.qkv.shape), op.positions.elements(), op.slots.elements(),
        to_string(op.cos.shape), to_string(op.cache.shape), n, h.query, h.key_value, h.dim);
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda && cuda::normed_qkv(stream, op)) return;
  norm(stream, op.rows);
  linear_forward(stream, {.x = op.rows.normed, .weight = op.weight, .out = op.qkv});
  rope(stream, {.qkv = op.qkv.view({1, n, width}),
                .cos = op.cos,
                .sin = op.sin,
                .heads = h.query + h.key_value,
                .positions = op.positions});
  cache_store(stream,
              {.x = {.matrix = op.qkv, .first = h.query * h.dim}, .slots = op.slots, .cache = op.cache});
}

void normed_swiglu(Stream& stream, const NormedSwiglu& op) {
  const ProfileScope scope(stream, "normed_swiglu");
  const std::int64_t n = check("normed_swiglu", op.rows, op.weight), f = op.weight.shape[0] / 2;
  if (op.weight.shape[0] != 2 * f || op.gate_up.elements() != n * 2 * f || op.gated.elements() != n * f)
    throw DefectError("normed_swiglu: weight {}, gate_up {}, gated {} do not fit {} rows",
                      to_string(op.weight.shape), to_string(op.gate_up.shape), to_string(op.gated.shape), n);
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda && cuda::normed_swiglu(stream, op)) return;
  norm(stream, op.rows);
  linear_swiglu_forward(stream,
                        {.x = op.rows.normed, .weight = op.weight, .gate_up = op.gate_up, .gated = op.gated});
}

}  // namespace foretoken
