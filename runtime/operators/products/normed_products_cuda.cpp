#include "runtime/operators/products/few_rows_linear.h"
#include "runtime/operators/products/normed_products.h"

namespace foretoken::cuda {

namespace {

__nv_bfloat16* elements(const Tensor& tensor) {
  return static_cast<__nv_bfloat16*>(tensor.data);
}

bool fits(const NormedRows& rows, const Tensor& weight) {
  return few_rows::fits(rows.x, weight, rows.rstd.elements()) &&
         few_rows::fits(rows.weight, weight, rows.rstd.elements());
}

few_rows::Problem problem(const NormedRows& rows, const Tensor& weight) {
  return {.rows = static_cast<int>(rows.rstd.elements()),
          .inputs = static_cast<int>(weight.shape[1]),
          .outputs = static_cast<int>(weight.shape[0]),
          .x = elements(rows.x),
          .weight = elements(weight),
          .norm = elements(rows.weight),
          .eps = static_cast<float>(rows.eps),
          .residual = nullptr,
          .out = nullptr,
          .gated = nullptr,
          .heads = nullptr};
}

}  // namespace

bool normed_qkv(Stream& stream, const NormedQkv& op) {
  if (!fits(op.rows, op.weight) || op.heads.dim % 16 != 0) return false;
  const few_rows::Heads heads{.query = static_cast<int>(op.heads.query),
                              .key_value = static_cast<int>(op.heads.key_value),
                              .dim = static_cast<int>(op.heads.dim),
                              .cos = op.cos.as<float>(),
                              .sin = op.sin.as<float>(),
                              .positions = op.positions.as<std::int32_t>(),
                              .slots = op.slots.as<std::int32_t>(),
                              .cache = elements(op.cache)};
  few_rows::Problem p = problem(op.rows, op.weight);
  p.out = op.qkv.data;
  p.heads = &heads;
  few_rows::linear(stream, p, false);
  return true;
}

bool normed_swiglu(Stream& stream, const NormedSwiglu& op) {
  if (!fits(op.rows, op.weight)) return false;
  few_rows::Problem p = problem(op.rows, op.weight);
  p.gated = elements(op.gated);
  few_rows::linear(stream, p, false);
  return true;
}

}  // namespace foretoken::cuda
