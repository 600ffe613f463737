#include "model/cache/cached_block.h"

#include "runtime/operators/attention/cached_attention.h"
#include "runtime/operators/dispatch.h"
#include "runtime/operators/products/linear.h"

namespace foretoken {

CachedBlock::Scratch CachedBlock::plan_scratch(Arena& arena, const ModelConfig& config, DType dtype,
                                               std::int64_t rows) {
  const std::int64_t nh = config.num_attention_heads, nkv = config.num_key_value_heads;
  return {.normed = arena.tensor(dtype, {rows, config.hidden_size}),
          .rstd = arena.tensor(statistics_dtype(dtype), {rows}),
          .qkv = arena.tensor(dtype, {rows, (nh + 2 * nkv) * config.head_dim}),
          .attention = arena.tensor(dtype, {rows, nh * config.head_dim}),
          .gate_up = arena.tensor(dtype, {rows, 2 * config.intermediate_size}),
          .gated = arena.tensor(dtype, {rows, config.intermediate_size})};
}

CachedBlock::CachedBlock(const ModelConfig& config, const Parameters& parameters, const std::string& prefix,
                         const CachePlan& plan, Block::Part part)
    : eps_(config.rms_norm_eps),
      heads_{.query = config.num_attention_heads,
             .key_value = config.num_key_value_heads,
             .dim = config.head_dim},
      weight_(Block::weights(parameters, parameters.weights(), prefix, part)) {
  if (part != Block::Part::mlp) cache_.emplace(plan, 2 * heads_.key_value * heads_.dim);
}

void CachedBlock::forward(const CachedRows& rows, const Tensor& x, const Scratch& scratch) const {
  if (weight_.qkv.defined()) attend(rows, x, scratch);
  if (weight_.down.defined()) run_mlp(rows, x, scratch);
}

void CachedBlock::attend(const CachedRows& rows, const Tensor& x, const Scratch& scratch) const {
  Stream& stream = rows.stream;
  const std::int64_t n = rows.count();
  const Tensor qkv = scratch.qkv.rows(0, n), attention = scratch.attention.rows(0, n);
  normed_qkv(stream, {.rows = normed(x, weight_.norm1, scratch),
                      .weight = weight_.qkv,
                      .heads = heads_,
                      .cos = rows.rope_cos,
                      .sin = rows.rope_sin,
                      .positions = rows.positions,
                      .slots = rows.slots,
                      .qkv = qkv,
                      .cache = cache_->tensor()});
  cached_attention(stream, {.heads = heads_,
                            .qkv = qkv,
                            .slots = rows.slots,
                            .positions = rows.positions,
                            .paths = rows.paths,
                            .cache = cache_->tensor(),
                            .out = attention});
  linear_forward(stream, {.x = attention, .weight = weight_.o, .residual = x, .out = x});
}

void CachedBlock::run_mlp(const CachedRows& rows, const Tensor& x, const Scratch& scratch) const {
  const Tensor gated = scratch.gated.rows(0, rows.count());
  normed_swiglu(rows.stream, {.rows = normed(x, weight_.norm2, scratch),
                              .weight = weight_.gate_up,
                              .gate_up = scratch.gate_up.rows(0, rows.count()),
                              .gated = gated});
  linear_forward(rows.stream, {.x = gated, .weight = weight_.down, .residual = x, .out = x});
}

NormedRows CachedBlock::normed(const Tensor& x, const Tensor& weight, const Scratch& scratch) const {
  const std::int64_t n = x.shape[0];
  return {.x = x,
          .weight = weight,
          .eps = eps_,
          .normed = scratch.normed.rows(0, n),
          .rstd = scratch.rstd.rows(0, n)};
}

}  // namespace foretoken
