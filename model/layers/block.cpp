#include "model/layers/block.h"

#include "runtime/operators/dispatch.h"
#include "runtime/operators/products/linear_swiglu.h"
#include "runtime/operators/rowwise/rope.h"

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
  // q, k, v are contiguous, and so are gate, up: the operators use each group as one matrix.
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
             const ActivationPlan& plan, Part part)
    : recompute_(plan.recompute),
      part_(part),
      heads_{.query = config.num_attention_heads,
             .key_value = config.num_key_value_heads,
             .dim = config.head_dim} {
  if (plan.fp8 && plan.recompute == Recompute::selective)
    throw UsageError(
        "model: recompute \"selective\" does not work with precision \"fp8\", which keeps 8-bit transposes "
        "of the "
        "inputs that it would recompute: use \"none\" or \"full\"");
  const Weights weight = weights(parameters, parameters.weights(), prefix, part),
                gradient = weights(parameters, parameters.gradients(), prefix, part);
  if (has_attention()) {
    qkv_ = NormedLinear({weight.norm1, gradient.norm1, config.rms_norm_eps},
                        Linear(plan, weight.qkv, gradient.qkv));
    o_ = Linear(plan, weight.o, gradient.o);
  }
  if (has_mlp()) {
    gate_up_ = NormedLinear({weight.norm2, gradient.norm2, config.rms_norm_eps},
                            Linear(plan, weight.gate_up, gradient.gate_up));
    down_ = Linear(plan, weight.down, gradient.down);
  }
}

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

Block::Transposed Block::plan_transposed(const ModelConfig& config, const ActivationPlan& plan,
                                         bool gradients, Part part) {
  Transposed transposed;
  if (!plan.fp8) return transposed;
  const std::int64_t n = plan.shape.tokens(), c = config.hidden_size, f = config.intermediate_size;
  const auto of = [&](std::int64_t in, std::int64_t out) {
    return gradients ? plan.fp8->plan_gradient(out, n) : plan.fp8->plan_input(in, n);
  };
  if (part != Part::mlp) {
    transposed.qkv = of(c, qkv_width(config));
    transposed.o = of(attention_width(config), c);
  }
  if (part != Part::attention) {
    transposed.gate_up = of(c, 2 * f);
    transposed.down = of(f, c);
  }
  return transposed;
}

Block::Saved Block::plan_own_saved(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                                   const Inputs& inputs, Part part) {
  const std::int64_t b = plan.shape.rows, t = plan.shape.length, n = plan.shape.tokens();
  const DType dtype = plan.dtype, statistics = statistics_dtype(dtype);
  Saved saved{.inputs = inputs, .transposed = plan_transposed(config, plan, false, part)};
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
    saved.dgate_up = saved.gate_up;  // the operator that writes it is the last to read gate_up
  }
  return saved;
}

Block::Saved Block::plan_saved(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                               const Scratch& scratch, Part part) {
  if (plan.recompute == Recompute::full) return scratch.recomputed;
  const bool shared = plan.recompute == Recompute::selective || plan.fp8;
  return plan_own_saved(arena, config, plan, shared ? scratch.inputs : plan_inputs(arena, config, plan, part),
                        part);
}

Block::Gradients Block::plan_gradients(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                                       const Scratch& scratch, Part part) {
  const std::int64_t n = plan.shape.tokens(), c = config.hidden_size;
  Gradients gradients{.inputs = {}, .transposed = plan_transposed(config, plan, true, part)};
  if (part == Part::whole) gradients.dx1 = arena.tensor(plan.dtype, {n, c});
  if (part != Part::mlp)
    gradients.dqkv = arena.tensor(plan.dtype, {plan.shape.rows, plan.shape.length, qkv_width(config)});
  if (plan.recompute == Recompute::selective)
    gradients.inputs = plan.split_backward ? plan_inputs(arena, config, plan, part) : scratch.inputs;
  return gradients;
}

Block::Scratch Block::plan_scratch(Arena& arena, const ModelConfig& config, const ActivationPlan& plan) {
  Scratch scratch;
  const bool selective = plan.recompute == Recompute::selective, full = plan.recompute == Recompute::full;
  if (selective || (plan.fp8 && !full)) scratch.inputs = plan_inputs(arena, config, plan);
  if (full) scratch.recomputed = plan_own_saved(arena, config, plan, plan_inputs(arena, config, plan));
  // dgated may share the memory of inputs.gated in two cases: if backward recomputes inputs.gated, because
  // the same operator reads dgated and then writes inputs.gated, and in FP8, because nothing reads
  // inputs.gated.
  scratch.dgated = (selective && !plan.split_backward) || (plan.fp8 && !full)
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
  down_.forward(context,
                {.x = gated(context, saved), .residual = x1, .out = out, .kept = saved.transposed.down});
}

void Block::attend(const LayerContext& context, const Tensor& x, const Saved& saved) const {
  Stream& stream = context.stream;
  qkv_.forward(context, {.norm = {.x = x, .normed = saved.inputs.normed1, .rstd = saved.rstd1},
                         .out = saved.qkv,
                         .kept = saved.transposed.qkv});
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
  o_.forward(context, {.x = saved.attention, .residual = x, .out = x1, .kept = saved.transposed.o});
}

void Block::gate(const LayerContext& context, const Tensor& x1, const Saved& saved) const {
  const Tensor& normed = saved.inputs.normed2;
  const NormedLinear::NormForward norm{.x = x1, .normed = normed, .rstd = saved.rstd2};
  if (gate_up_.linear().in_fp8(context))
    return gate_up_.forward(context, {.norm = norm, .out = saved.gate_up, .kept = saved.transposed.gate_up});
  gate_up_.norm(context, norm);
  linear_swiglu_forward(context.stream, {.x = normed,
                                         .weight = gate_up_.linear().weight(),
                                         .gate_up = saved.gate_up,
                                         .gated = saved.inputs.gated});
}

QuantizeSource Block::gated(const LayerContext& context, const Saved& saved) const {
  if (down_.in_fp8(context)) return SwigluOutput{saved.gate_up};
  return saved.inputs.gated;
}

void Block::backward_input(const LayerContext& context, const BackwardInput& op) const {
  const auto& [dout, x, dx, saved, gradients, scratch] = op;
  const Tensor& x1 = part_ == Part::whole ? saved.x1 : x;
  const Tensor& dx1 = part_ == Part::whole ? gradients.dx1 : part_ == Part::attention ? dout : dx;
  if (recompute_ == Recompute::full) {
    if (has_attention()) attend(context, x, saved);
    if (part_ == Part::whole) add_attention(context, x, x1, saved);
    if (has_mlp()) {
      gate(context, x1, saved);
      down_.keep_input(context, gated(context, saved), saved.transposed.down);
    }
  }
  if (has_mlp()) backward_mlp(context, {dout, x1, dx1, saved, gradients, scratch});
  if (has_attention()) backward_attention(context, {dx1, x, dx, saved, gradients, scratch});
}

void Block::backward_mlp(const LayerContext& context, const BackwardInput& op) const {
  const auto& [dout, x1, dx1, saved, gradients, scratch] = op;
  // out = x1 + down · silu(gate) · up
  QuantizeSource dgate_up = saved.dgate_up;
  if (down_.in_fp8(context)) {
    down_.backward_input(context, {.dout = dout, .dx = scratch.dgated, .kept = gradients.transposed.down});
    dgate_up = SwigluInputGradient{.dout = scratch.dgated, .gate_up = saved.gate_up};
  } else {
    linear_swiglu_backward_input(context.stream, {.dout = dout,
                                                  .weight = down_.weight(),
                                                  .gate_up = saved.gate_up,
                                                  .dgate_up = saved.dgate_up,
                                                  .dgated = scratch.dgated,
                                                  .gated = recomputed(gradients).gated});
  }
  // gate, up = gate_up · RMSNorm(x1)
  gate_up_.backward_input(context, {.dout = dgate_up,
                                    .kept = gradients.transposed.gate_up,
                                    .dnormed = scratch.dnormed,
                                    .x = x1,
                                    .rstd = saved.rstd2,
                                    .residual = dout,
                                    .dx = dx1,
                                    .normed = recomputed(gradients).normed2,
                                    .amax = part_ == Part::whole ? o_.amax(context) : Tensor{}});
}

void Block::backward_attention(const LayerContext& context, const BackwardInput& op) const {
  const auto& [dx1, x, dx, saved, gradients, scratch] = op;
  // x1 = x + o · attention
  // In a whole block, backward_mlp() has stored the amax of dx1.
  const QuantizeSource dout = part_ == Part::whole ? o_.with_amax(context, dx1) : QuantizeSource(dx1);
  o_.backward_input(context, {.dout = dout, .dx = scratch.dattention, .kept = gradients.transposed.o});
  attention_backward(context.stream, {.heads = heads_,
                                      .dout = scratch.dattention,
                                      .qkv = saved.qkv,
                                      .document_start = context.document_start,
                                      .out = saved.attention,
                                      .lse = saved.lse,
                                      .rope_cos = context.rope_cos,
                                      .rope_sin = context.rope_sin,
                                      .dqkv = gradients.dqkv});
  // q, k, v = qkv · RMSNorm(x)
  qkv_.backward_input(context, {.dout = gradients.dqkv,
                                .kept = gradients.transposed.qkv,
                                .dnormed = scratch.dnormed,
                                .x = x,
                                .rstd = saved.rstd1,
                                .residual = dx1,
                                .dx = dx,
                                .normed = recomputed(gradients).normed1,
                                .amax = {}});
}

void Block::backward_weight(const LayerContext& context, const Tensor& dout, const Saved& saved,
                            const Gradients& gradients) const {
  const Inputs& in = inputs(saved, gradients);
  const Transposed &x = saved.transposed, &d = gradients.transposed;
  if (has_mlp()) {
    down_.backward_weight(context, {.dout = dout, .x = in.gated, .kept = {x.down, d.down}});
    gate_up_.backward_weight(context,
                             {.dout = saved.dgate_up, .x = in.normed2, .kept = {x.gate_up, d.gate_up}});
  }
  if (!has_attention()) return;
  const Tensor& dx1 = part_ == Part::whole ? gradients.dx1 : dout;
  o_.backward_weight(context, {.dout = dx1, .x = saved.attention, .kept = {x.o, d.o}});
  qkv_.backward_weight(context, {.dout = gradients.dqkv, .x = in.normed1, .kept = {x.qkv, d.qkv}});
}

}  // namespace foretoken
