#include "model/block.h"

#include "runtime/operators/dispatch.h"
#include "runtime/operators/linear.h"
#include "runtime/operators/linear_swiglu.h"
#include "runtime/operators/rms_norm.h"
#include "runtime/operators/rope.h"

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
    return ParameterSpec{.name = prefix + name,
                         .shape = {out, in},
                         .std = config.initializer_range,
                         .gradient_overwritten = true};
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

Block::Block(const ModelConfig& config, const Parameters& parameters, const std::string& prefix,
             Recompute recompute)
    : eps_(config.rms_norm_eps),
      recompute_(recompute),
      heads_{.query = config.num_attention_heads,
             .key_value = config.num_key_value_heads,
             .dim = config.head_dim},
      weight_(weights(parameters, parameters.weights(), prefix)),
      gradient_(weights(parameters, parameters.gradients(), prefix)) {}

Block::Weights Block::weights(const Parameters& parameters, const Tensor& flat, const std::string& prefix) {
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

Block::Inputs Block::plan_inputs(Arena& arena, const ModelConfig& config, const ActivationPlan& plan) {
  const std::int64_t n = plan.shape.tokens();
  return {.normed1 = arena.tensor(plan.dtype, {n, config.hidden_size}),
          .normed2 = arena.tensor(plan.dtype, {n, config.hidden_size}),
          .gated = arena.tensor(plan.dtype, {n, config.intermediate_size})};
}

Block::Saved Block::plan_own_saved(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                                   const Inputs& inputs) {
  const std::int64_t b = plan.shape.rows, t = plan.shape.length, n = plan.shape.tokens();
  const std::int64_t c = config.hidden_size;
  const DType dtype = plan.dtype, statistics = statistics_dtype(dtype);
  return {.inputs = inputs,
          .rstd1 = arena.tensor(statistics, {n}),
          .qkv = arena.tensor(dtype, {b, t, qkv_width(config)}),
          .attention = arena.tensor(dtype, {b, t, attention_width(config)}),
          .lse = arena.tensor(statistics, {b, config.num_attention_heads, t}),
          .x1 = arena.tensor(dtype, {n, c}),
          .rstd2 = arena.tensor(statistics, {n}),
          .gate_up = arena.tensor(dtype, {n, 2 * config.intermediate_size})};
}

Block::Saved Block::plan_saved(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                               const Scratch& scratch) {
  if (plan.recompute == Recompute::full) return scratch.recomputed;
  return plan_own_saved(
      arena, config, plan,
      plan.recompute == Recompute::selective ? scratch.inputs : plan_inputs(arena, config, plan));
}

Block::Gradients Block::plan_gradients(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                                       const Scratch& scratch) {
  const std::int64_t n = plan.shape.tokens(), c = config.hidden_size;
  Gradients gradients{
      .dx1 = arena.tensor(plan.dtype, {n, c}),
      .dqkv = arena.tensor(plan.dtype, {plan.shape.rows, plan.shape.length, qkv_width(config)})};
  if (plan.recompute == Recompute::selective)
    gradients.inputs = plan.split_backward ? plan_inputs(arena, config, plan) : scratch.inputs;
  return gradients;
}

Block::Scratch Block::plan_scratch(Arena& arena, const ModelConfig& config, const ActivationPlan& plan) {
  Scratch scratch;
  const bool selective = plan.recompute == Recompute::selective;
  if (selective) scratch.inputs = plan_inputs(arena, config, plan);
  if (plan.recompute == Recompute::full)
    scratch.recomputed = plan_own_saved(arena, config, plan, plan_inputs(arena, config, plan));
  // A gate's input gradient is read once, by the operator that recomputes its output: they share memory.
  scratch.dgated = selective && !plan.split_backward
                       ? scratch.inputs.gated
                       : arena.tensor(plan.dtype, {plan.shape.tokens(), config.intermediate_size});
  scratch.dnormed = arena.tensor(plan.dtype, {plan.shape.tokens(), config.hidden_size});
  scratch.dattention =
      arena.tensor(plan.dtype, {plan.shape.rows, plan.shape.length, attention_width(config)});
  return scratch;
}

void Block::forward(const LayerContext& context, const Tensor& x, const Tensor& out,
                    const Saved& saved) const {
  forward_saved(context, x, saved);
  linear_forward(context.stream,
                 {.x = saved.inputs.gated, .weight = weight_.down, .residual = saved.x1, .out = out});
}

void Block::forward_saved(const LayerContext& context, const Tensor& x, const Saved& saved) const {
  Stream& stream = context.stream;
  const Inputs& in = saved.inputs;
  rms_norm_forward(stream,
                   {.x = x, .weight = weight_.norm1, .eps = eps_, .out = {in.normed1}, .rstd = saved.rstd1});
  linear_forward(stream, {.x = in.normed1, .weight = weight_.qkv, .out = saved.qkv});
  rope(stream, {.qkv = saved.qkv,
                .cos = context.rope_cos,
                .sin = context.rope_sin,
                .heads = heads_.query + heads_.key_value});
  attention_forward(stream, {.heads = heads_,
                             .qkv = saved.qkv,
                             .document_start = context.document_start,
                             .out = saved.attention,
                             .lse = saved.lse});
  linear_forward(stream, {.x = saved.attention, .weight = weight_.o, .residual = x, .out = saved.x1});
  rms_norm_forward(
      stream,
      {.x = saved.x1, .weight = weight_.norm2, .eps = eps_, .out = {in.normed2}, .rstd = saved.rstd2});
  linear_swiglu_forward(
      stream, {.x = in.normed2, .weight = weight_.gate_up, .gate_up = saved.gate_up, .gated = in.gated});
}

void Block::backward_input(const LayerContext& context, const Tensor& dout, const Tensor& x, const Tensor& dx,
                           const Saved& saved, const Gradients& gradients, const Scratch& scratch) const {
  Stream& stream = context.stream;
  if (recompute_ == Recompute::full) forward_saved(context, x, saved);
  const Inputs recomputed = recompute_ == Recompute::selective ? gradients.inputs : Inputs{};
  // out = x1 + down · gated
  linear_swiglu_backward_input(stream, {.dout = dout,
                                        .weight = weight_.down,
                                        .gate_up = saved.gate_up,
                                        .dgate_up = saved.gate_up,
                                        .dgated = scratch.dgated,
                                        .gated = recomputed.gated});
  linear_backward_input(stream, {.dout = saved.gate_up, .weight = weight_.gate_up, .dx = scratch.dnormed});
  rms_norm_backward(stream, {.dout = {scratch.dnormed},
                             .x = saved.x1,
                             .weight = weight_.norm2,
                             .rstd = saved.rstd2,
                             .residual = dout,
                             .dx = gradients.dx1,
                             .dweight = context.measured ? Tensor{} : gradient_.norm2,
                             .out = recomputed.normed2});
  // x1 = x + o · attention
  linear_backward_input(stream, {.dout = gradients.dx1, .weight = weight_.o, .dx = scratch.dattention});
  attention_backward(stream, {.heads = heads_,
                              .dout = scratch.dattention,
                              .qkv = saved.qkv,
                              .document_start = context.document_start,
                              .out = saved.attention,
                              .lse = saved.lse,
                              .rope_cos = context.rope_cos,
                              .rope_sin = context.rope_sin,
                              .dqkv = gradients.dqkv});
  linear_backward_input(stream, {.dout = gradients.dqkv, .weight = weight_.qkv, .dx = scratch.dnormed});
  rms_norm_backward(stream, {.dout = {scratch.dnormed},
                             .x = x,
                             .weight = weight_.norm1,
                             .rstd = saved.rstd1,
                             .residual = gradients.dx1,
                             .dx = dx,
                             .dweight = context.measured ? Tensor{} : gradient_.norm1,
                             .out = recomputed.normed1});
}

void Block::backward_weight(const LayerContext& context, const Tensor& dout, const Saved& saved,
                            const Gradients& gradients) const {
  const Inputs& in = inputs(saved, gradients);
  const auto product = [&](const Tensor& dproduct, const Tensor& x, const Tensor& dweight) {
    linear_backward_weight(
        context.stream, {.dout = dproduct, .x = x, .dweight = dweight, .accumulate = context.begun.weight});
  };
  product(dout, in.gated, gradient_.down);
  product(saved.gate_up, in.normed2, gradient_.gate_up);
  product(gradients.dx1, saved.attention, gradient_.o);
  product(gradients.dqkv, in.normed1, gradient_.qkv);
}

}  // namespace foretoken
