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

std::vector<ParameterSpec> Block::parameters(const ModelConfig& config, const std::string& prefix,
                                             Part part) {
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
  std::vector<ParameterSpec> attention{
      norm(".input_layernorm.weight"), matrix(".self_attn.q_proj.weight", attention_width(config), c),
      matrix(".self_attn.k_proj.weight", kv, c), matrix(".self_attn.v_proj.weight", kv, c),
      matrix(".self_attn.o_proj.weight", c, attention_width(config))};
  if (part == Part::attention) return attention;
  const std::vector<ParameterSpec> mlp{
      norm(".post_attention_layernorm.weight"), matrix(".mlp.gate_proj.weight", f, c),
      matrix(".mlp.up_proj.weight", f, c), matrix(".mlp.down_proj.weight", c, f)};
  if (part == Part::mlp) return mlp;
  attention.insert(attention.end(), mlp.begin(), mlp.end());
  return attention;
}

Block::Block(const ModelConfig& config, const Parameters& parameters, const std::string& prefix,
             Recompute recompute, Part part)
    : eps_(config.rms_norm_eps),
      recompute_(recompute),
      part_(part),
      heads_{.query = config.num_attention_heads,
             .key_value = config.num_key_value_heads,
             .dim = config.head_dim},
      weight_(weights(parameters, parameters.weights(), prefix, part)),
      gradient_(weights(parameters, parameters.gradients(), prefix, part)) {}

Block::Weights Block::weights(const Parameters& parameters, const Tensor& flat, const std::string& prefix,
                              Part part) {
  const auto single = [&](const char* name) {
    return Parameters::view(flat, parameters.spec(prefix + name));
  };
  const std::vector<std::string> qkv{prefix + ".self_attn.q_proj.weight", prefix + ".self_attn.k_proj.weight",
                                     prefix + ".self_attn.v_proj.weight"};
  const std::vector<std::string> gate_up{prefix + ".mlp.gate_proj.weight", prefix + ".mlp.up_proj.weight"};
  Weights weights;
  if (part != Part::mlp) {
    weights.norm1 = single(".input_layernorm.weight");
    weights.qkv = parameters.fused(flat, qkv);
    weights.o = single(".self_attn.o_proj.weight");
  }
  if (part != Part::attention) {
    weights.norm2 = single(".post_attention_layernorm.weight");
    weights.gate_up = parameters.fused(flat, gate_up);
    weights.down = single(".mlp.down_proj.weight");
  }
  return weights;
}

Block::Inputs Block::plan_inputs(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                                 Part part) {
  const std::int64_t n = plan.shape.tokens();
  Inputs inputs;
  if (part != Part::mlp) inputs.normed1 = arena.tensor(plan.dtype, {n, config.hidden_size});
  if (part != Part::attention) {
    inputs.normed2 = arena.tensor(plan.dtype, {n, config.hidden_size});
    inputs.gated = arena.tensor(plan.dtype, {n, config.intermediate_size});
  }
  return inputs;
}

Block::Saved Block::plan_own_saved(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                                   const Inputs& inputs, Part part) {
  const std::int64_t b = plan.shape.rows, t = plan.shape.length, n = plan.shape.tokens();
  const DType dtype = plan.dtype, statistics = statistics_dtype(dtype);
  Saved saved{.inputs = inputs};
  if (part != Part::mlp) {
    saved.rstd1 = arena.tensor(statistics, {n});
    saved.qkv = arena.tensor(dtype, {b, t, qkv_width(config)});
    saved.attention = arena.tensor(dtype, {b, t, attention_width(config)});
    saved.lse = arena.tensor(statistics, {b, config.num_attention_heads, t});
  }
  if (part == Part::whole) saved.x1 = arena.tensor(dtype, {n, config.hidden_size});
  if (part != Part::attention) {
    saved.rstd2 = arena.tensor(statistics, {n});
    saved.gate_up = arena.tensor(dtype, {n, 2 * config.intermediate_size});
  }
  return saved;
}

Block::Saved Block::plan_saved(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                               const Scratch& scratch, Part part) {
  if (plan.recompute == Recompute::full) return scratch.recomputed;
  return plan_own_saved(
      arena, config, plan,
      plan.recompute == Recompute::selective ? scratch.inputs : plan_inputs(arena, config, plan, part), part);
}

Block::Gradients Block::plan_gradients(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                                       const Scratch& scratch, Part part) {
  const std::int64_t n = plan.shape.tokens(), c = config.hidden_size;
  Gradients gradients;
  if (part == Part::whole) gradients.dx1 = arena.tensor(plan.dtype, {n, c});
  if (part != Part::mlp)
    gradients.dqkv = arena.tensor(plan.dtype, {plan.shape.rows, plan.shape.length, qkv_width(config)});
  if (plan.recompute == Recompute::selective)
    gradients.inputs = plan.split_backward ? plan_inputs(arena, config, plan, part) : scratch.inputs;
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
  const Tensor& x1 = part_ == Part::whole ? saved.x1 : part_ == Part::attention ? out : x;
  if (has_attention()) {
    attend(context, x, saved);
    add_attention(context, x, x1, saved);
  }
  if (!has_mlp()) return;
  gate(context, x1, saved);
  linear_forward(context.stream,
                 {.x = saved.inputs.gated, .weight = weight_.down, .residual = x1, .out = out});
}

void Block::attend(const LayerContext& context, const Tensor& x, const Saved& saved) const {
  Stream& stream = context.stream;
  const Tensor& normed = saved.inputs.normed1;
  rms_norm_forward(stream,
                   {.x = x, .weight = weight_.norm1, .eps = eps_, .out = {normed}, .rstd = saved.rstd1});
  linear_forward(stream, {.x = normed, .weight = weight_.qkv, .out = saved.qkv});
  rope(stream, {.qkv = saved.qkv,
                .cos = context.rope_cos,
                .sin = context.rope_sin,
                .heads = heads_.query + heads_.key_value});
  attention_forward(stream, {.heads = heads_,
                             .qkv = saved.qkv,
                             .document_start = context.document_start,
                             .out = saved.attention,
                             .lse = saved.lse});
}

void Block::add_attention(const LayerContext& context, const Tensor& x, const Tensor& x1,
                          const Saved& saved) const {
  linear_forward(context.stream, {.x = saved.attention, .weight = weight_.o, .residual = x, .out = x1});
}

void Block::gate(const LayerContext& context, const Tensor& x1, const Saved& saved) const {
  Stream& stream = context.stream;
  const Tensor& normed = saved.inputs.normed2;
  rms_norm_forward(stream,
                   {.x = x1, .weight = weight_.norm2, .eps = eps_, .out = {normed}, .rstd = saved.rstd2});
  linear_swiglu_forward(
      stream,
      {.x = normed, .weight = weight_.gate_up, .gate_up = saved.gate_up, .gated = saved.inputs.gated});
}

void Block::backward_input(const LayerContext& context, const Tensor& dout, const Tensor& x, const Tensor& dx,
                           const Saved& saved, const Gradients& gradients, const Scratch& scratch) const {
  const Tensor& x1 = part_ == Part::whole ? saved.x1 : x;
  const Tensor& dx1 = part_ == Part::whole ? gradients.dx1 : part_ == Part::attention ? dout : dx;
  if (recompute_ == Recompute::full) {
    if (has_attention()) attend(context, x, saved);
    if (part_ == Part::whole) add_attention(context, x, x1, saved);
    if (has_mlp()) gate(context, x1, saved);
  }
  const Inputs recomputed = recompute_ == Recompute::selective ? gradients.inputs : Inputs{};
  if (has_mlp()) backward_mlp(context, dout, x1, dx1, saved, recomputed, scratch);
  if (has_attention()) backward_attention(context, dx1, x, dx, saved, gradients, recomputed, scratch);
}

void Block::backward_mlp(const LayerContext& context, const Tensor& dout, const Tensor& x1, const Tensor& dx1,
                         const Saved& saved, const Inputs& recomputed, const Scratch& scratch) const {
  Stream& stream = context.stream;
  // out = x1 + down · gated
  linear_swiglu_backward_input(stream, {.dout = dout,
                                        .weight = weight_.down,
                                        .gate_up = saved.gate_up,
                                        .dgate_up = saved.gate_up,
                                        .dgated = scratch.dgated,
                                        .gated = recomputed.gated});
  linear_backward_input(stream, {.dout = saved.gate_up, .weight = weight_.gate_up, .dx = scratch.dnormed});
  rms_norm_backward(stream, {.dout = {scratch.dnormed},
                             .x = x1,
                             .weight = weight_.norm2,
                             .rstd = saved.rstd2,
                             .residual = dout,
                             .dx = dx1,
                             .dweight = context.measured ? Tensor{} : gradient_.norm2,
                             .out = recomputed.normed2});
}

void Block::backward_attention(const LayerContext& context, const Tensor& dx1, const Tensor& x,
                               const Tensor& dx, const Saved& saved, const Gradients& gradients,
                               const Inputs& recomputed, const Scratch& scratch) const {
  Stream& stream = context.stream;
  // x1 = x + o · attention
  linear_backward_input(stream, {.dout = dx1, .weight = weight_.o, .dx = scratch.dattention});
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
                             .residual = dx1,
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
  if (has_mlp()) {
    product(dout, in.gated, gradient_.down);
    product(saved.gate_up, in.normed2, gradient_.gate_up);
  }
  if (!has_attention()) return;
  product(part_ == Part::whole ? gradients.dx1 : dout, saved.attention, gradient_.o);
  product(gradients.dqkv, in.normed1, gradient_.qkv);
}

}  // namespace foretoken
