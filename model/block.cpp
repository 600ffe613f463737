#include "model/block.h"

#include "runtime/operators/elementwise.h"
#include "runtime/operators/linear.h"
#include "runtime/operators/rms_norm.h"
#include "runtime/operators/rope.h"
#include "runtime/operators/swiglu.h"

namespace foretoken {

namespace {

std::int64_t qkv_width(const ModelConfig& config) {
  return (config.num_attention_heads + 2 * config.num_key_value_heads) * config.head_dim;
}

std::int64_t attention_width(const ModelConfig& config) {
  return config.num_attention_heads * config.head_dim;
}

}  // namespace

std::vector<ParameterSpec> Block::parameters(const ModelConfig& config, const std::string& prefix) {
  const std::int64_t c = config.hidden_size, f = config.intermediate_size;
  const std::int64_t kv = config.num_key_value_heads * config.head_dim;
  const auto norm = [&](const char* name) {
    return ParameterSpec{.name = prefix + name, .shape = {c}, .decay = false, .init = Init::ones};
  };
  const auto matrix = [&](const char* name, std::int64_t out, std::int64_t in) {
    return ParameterSpec{.name = prefix + name, .shape = {out, in}, .std = config.initializer_range};
  };
  // q, k, v and gate, up stand one after another: each group is one matrix to the operators.
  return {norm(".input_layernorm.weight"),
          matrix(".self_attn.q_proj.weight", attention_width(config), c),
          matrix(".self_attn.k_proj.weight", kv, c),
          matrix(".self_attn.v_proj.weight", kv, c),
          matrix(".self_attn.o_proj.weight", c, attention_width(config)),
          norm(".post_attention_layernorm.weight"),
          matrix(".mlp.gate_proj.weight", f, c),
          matrix(".mlp.up_proj.weight", f, c),
          matrix(".mlp.down_proj.weight", c, f)};
}

Block::Block(const ModelConfig& config, const Parameters& parameters, const std::string& prefix)
    : eps_(config.rms_norm_eps),
      heads_{.query = config.num_attention_heads,
             .key_value = config.num_key_value_heads,
             .dim = config.head_dim},
      value_(weights(parameters, parameters.values(), prefix)),
      gradient_(weights(parameters, parameters.gradients(), prefix)) {}

Block::Weights Block::weights(const Parameters& parameters, const Tensor& flat,
                              const std::string& prefix) const {
  const auto single = [&](const char* name) {
    return Parameters::view(flat, parameters.spec(prefix + name));
  };
  const std::vector<std::string> qkv{prefix + ".self_attn.q_proj.weight", prefix + ".self_attn.k_proj.weight",
                                     prefix + ".self_attn.v_proj.weight"};
  const std::vector<std::string> gate_up{prefix + ".mlp.gate_proj.weight", prefix + ".mlp.up_proj.weight"};
  return {.norm1 = single(".input_layernorm.weight"),
          .qkv = parameters.fused(flat, qkv),
          .o = single(".self_attn.o_proj.weight"),
          .norm2 = single(".post_attention_layernorm.weight"),
          .gate_up = parameters.fused(flat, gate_up),
          .down = single(".mlp.down_proj.weight")};
}

Block::Saved Block::plan_saved(Arena& arena, const ModelConfig& config, const MicrobatchShape& shape,
                               DType dtype) {
  const std::int64_t b = shape.rows, t = shape.length, n = shape.tokens();
  const std::int64_t c = config.hidden_size, f = config.intermediate_size;
  return {.rstd1 = arena.tensor(dtype, {n}),
          .normed1 = arena.tensor(dtype, {n, c}),
          .qkv = arena.tensor(dtype, {b, t, qkv_width(config)}),
          .attention = arena.tensor(dtype, {b, t, attention_width(config)}),
          .lse = arena.tensor(dtype, {b, config.num_attention_heads, t}),
          .x1 = arena.tensor(dtype, {n, c}),
          .rstd2 = arena.tensor(dtype, {n}),
          .normed2 = arena.tensor(dtype, {n, c}),
          .gate_up = arena.tensor(dtype, {n, 2 * f}),
          .gated = arena.tensor(dtype, {n, f})};
}

Block::Gradients Block::plan_gradients(Arena& arena, const ModelConfig& config, const MicrobatchShape& shape,
                                       DType dtype) {
  const std::int64_t n = shape.tokens(), c = config.hidden_size;
  return {.dgate_up = arena.tensor(dtype, {n, 2 * config.intermediate_size}),
          .dnormed2 = arena.tensor(dtype, {n, c}),
          .dx1 = arena.tensor(dtype, {n, c}),
          .dqkv = arena.tensor(dtype, {shape.rows, shape.length, qkv_width(config)}),
          .dnormed1 = arena.tensor(dtype, {n, c})};
}

Block::Scratch Block::plan_scratch(Arena& arena, const ModelConfig& config, const MicrobatchShape& shape,
                                   DType dtype) {
  return {.dgated = arena.tensor(dtype, {shape.tokens(), config.intermediate_size}),
          .dattention = arena.tensor(dtype, {shape.rows, shape.length, attention_width(config)})};
}

void Block::forward(const LayerContext& context, const Tensor& x, const Tensor& out,
                    const Saved& saved) const {
  Stream& stream = context.stream;
  rms_norm_forward(
      stream, {.x = x, .weight = value_.norm1, .eps = eps_, .out = {saved.normed1}, .rstd = saved.rstd1});
  linear_forward(stream, {.x = saved.normed1, .weight = value_.qkv, .out = saved.qkv});
  rope(stream, {.qkv = saved.qkv,
                .cos = context.rope_cos,
                .sin = context.rope_sin,
                .heads = heads_.query + heads_.key_value});
  attention_forward(stream, {.heads = heads_,
                             .qkv = saved.qkv,
                             .document_start = context.document_start,
                             .out = saved.attention,
                             .lse = saved.lse});
  linear_forward(stream, {.x = saved.attention, .weight = value_.o, .residual = x, .out = saved.x1});
  rms_norm_forward(
      stream,
      {.x = saved.x1, .weight = value_.norm2, .eps = eps_, .out = {saved.normed2}, .rstd = saved.rstd2});
  linear_forward(stream, {.x = saved.normed2, .weight = value_.gate_up, .out = saved.gate_up});
  swiglu_forward(stream, {.gate_up = saved.gate_up, .out = saved.gated});
  linear_forward(stream, {.x = saved.gated, .weight = value_.down, .residual = saved.x1, .out = out});
}

void Block::backward_input(const LayerContext& context, const Tensor& dout, const Tensor& x, const Tensor& dx,
                           const Saved& saved, const Gradients& gradients, const Scratch& scratch) const {
  Stream& stream = context.stream;
  // out = x1 + down · gated
  linear_backward_input(stream, {.dout = dout, .weight = value_.down, .dx = scratch.dgated});
  swiglu_backward(stream, {.dout = scratch.dgated, .gate_up = saved.gate_up, .dgate_up = gradients.dgate_up});
  linear_backward_input(stream,
                        {.dout = gradients.dgate_up, .weight = value_.gate_up, .dx = gradients.dnormed2});
  copy(stream, dout, gradients.dx1);
  rms_norm_backward_input(stream, {.dout = {gradients.dnormed2},
                                   .x = saved.x1,
                                   .weight = value_.norm2,
                                   .rstd = saved.rstd2,
                                   .dx = gradients.dx1,
                                   .accumulate = true});
  // x1 = x + o · attention
  linear_backward_input(stream, {.dout = gradients.dx1, .weight = value_.o, .dx = scratch.dattention});
  attention_backward(stream, {.heads = heads_,
                              .dout = scratch.dattention,
                              .qkv = saved.qkv,
                              .document_start = context.document_start,
                              .out = saved.attention,
                              .lse = saved.lse,
                              .dqkv = gradients.dqkv});
  rope(stream, {.qkv = gradients.dqkv,
                .cos = context.rope_cos,
                .sin = context.rope_sin,
                .heads = heads_.query + heads_.key_value,
                .direction = RopeDirection::backward});
  linear_backward_input(stream, {.dout = gradients.dqkv, .weight = value_.qkv, .dx = gradients.dnormed1});
  copy(stream, gradients.dx1, dx);
  rms_norm_backward_input(stream, {.dout = {gradients.dnormed1},
                                   .x = x,
                                   .weight = value_.norm1,
                                   .rstd = saved.rstd1,
                                   .dx = dx,
                                   .accumulate = true});
}

void Block::backward_weight(const LayerContext& context, const Tensor& dout, const Tensor& x,
                            const Saved& saved, const Gradients& gradients) const {
  Stream& stream = context.stream;
  linear_backward_weight(stream, {.dout = dout, .x = saved.gated, .dweight = gradient_.down});
  linear_backward_weight(stream,
                         {.dout = gradients.dgate_up, .x = saved.normed2, .dweight = gradient_.gate_up});
  rms_norm_backward_weight(
      stream, {.dout = {gradients.dnormed2}, .x = saved.x1, .rstd = saved.rstd2, .dweight = gradient_.norm2});
  linear_backward_weight(stream, {.dout = gradients.dx1, .x = saved.attention, .dweight = gradient_.o});
  linear_backward_weight(stream, {.dout = gradients.dqkv, .x = saved.normed1, .dweight = gradient_.qkv});
  rms_norm_backward_weight(
      stream, {.dout = {gradients.dnormed1}, .x = x, .rstd = saved.rstd1, .dweight = gradient_.norm1});
}

}  // namespace foretoken
