#include "model/heads/residual_heads.h"

#include "model/parameter_names.h"
#include "runtime/operators/products/linear.h"
#include "runtime/operators/rowwise/activation.h"
#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken {

namespace {

bool is_mlp(const MtpConfig& mtp) {
  return mtp.residual_form == MtpConfig::ResidualForm::mlp;
}

}  // namespace

std::vector<ParameterSpec> ResidualHeads::parameters(const ModelConfig& model, const MtpConfig& mtp,
                                                     const std::string& prefix) {
  const std::int64_t c = model.hidden_size, f = model.intermediate_size;
  const auto spec = [&](const char* name, const Shape& shape, bool decay) {
    return ParameterSpec{.name = prefix + name,
                         .shape = shape,
                         .decay = decay,
                         .std = model.initializer_range,
                         .gradient_overwritten = true};
  };
  std::vector<ParameterSpec> specs;
  if (is_mlp(mtp)) {
    specs = {spec(".step_embedding.weight", {c}, false), spec(".fc1.weight", {f, c}, true),
             spec(".fc2.weight", {c, f}, true)};
  } else {
    specs = {spec(".fc1.weight", {c, c}, true)};
    specs.back().init = Init::zeros;
  }
  if (mtp.own_output) {
    specs.push_back(own_matrix(model, prefix));
    specs.back().copy_of = output_matrix_name(model);
  }
  return specs;
}

ResidualHeads::ResidualHeads(const HeadsPlan& plan)
    : HeadsInTurn(plan, plan.mtp.own_output ? Outputs::own : Outputs::shared), mlp_(is_mlp(plan.mtp)) {
  for (int depth = first(); depth <= last(); ++depth) {
    weight_.push_back(weights(plan, plan.parameters.weights(), depth));
    gradient_.push_back(weights(plan, plan.parameters.gradients(), depth));
  }
  if (weight_.empty()) return;
  const ActivationPlan& activations = plan.activations;
  const std::int64_t n = activations.shape.tokens(), c = plan.model.hidden_size;
  const auto tensor = [&](const Shape& shape) { return plan.arena.tensor(activations.dtype, shape); };
  inner_ = dinner_ = tensor({n, mlp_ ? plan.model.intermediate_size : c});
  hidden_ = dinput_ = tensor({activations.shape.rows, activations.shape.length, c});
  if (!mlp_) return;
  stepped_ = tensor({n, c});
  active_ = dactive_ = tensor(inner_.shape);
  ones_ = tensor({n, 1});
  if (!plan.arena.counts_only()) fill(plan.stream, ones_, 1);
}

ResidualHeads::Weights ResidualHeads::weights(const HeadsPlan& plan, const Tensor& flat, int depth) const {
  const std::string prefix = mtp_prefix(plan.model, plan.mtp, depth);
  const auto single = [&](const char* name) {
    return Parameters::view(flat, plan.parameters.spec(prefix + name));
  };
  Weights weights{.fc1 = single(".fc1.weight")};
  if (mlp_) {
    const Tensor embedding = single(".step_embedding.weight");
    if (embedding.defined()) weights.embedding = embedding.view({plan.model.hidden_size, 1});
    weights.fc2 = single(".fc2.weight");
  }
  return weights;
}

Tensor ResidualHeads::hidden(const LayerContext& context, int slot, int depth) const {
  Stream& stream = context.stream;
  const Weights& weight = of(weight_, depth);
  const Tensor& normed = at(slot).trunk.normed;
  // u = n + e. The depth's embedding e is added by a linear layer whose single input is 1.
  if (mlp_)
    linear_forward(stream, {.x = ones_, .weight = weight.embedding, .residual = normed, .out = stepped_});
  linear_forward(stream, {.x = input(slot), .weight = weight.fc1, .out = inner_});
  if (mlp_) {
    activation_forward(stream, {.function = Activation::gelu, .x = inner_, .out = active_});
    linear_forward(stream, {.x = active_, .weight = weight.fc2, .residual = stepped_, .out = hidden_});
  } else {
    activation_forward(stream,
                       {.function = Activation::silu, .x = inner_, .residual = normed, .out = hidden_});
  }
  return hidden_;
}

std::optional<Tensor> ResidualHeads::head_backward(const Turn& turn) const {
  Stream& stream = turn.context.stream;
  const Weights &weight = of(weight_, turn.depth), &gradient = of(gradient_, turn.depth);
  const auto backward_weight = [&](const Tensor& dout, const Tensor& x, const Tensor& dweight) {
    linear_backward_weight(
        stream, {.dout = dout, .x = x, .dweight = dweight, .accumulate = turn.context.halves_run.weight});
  };
  if (mlp_) {
    // hidden = u + fc2 · gelu(inner)
    backward_weight(dhidden(), active_, gradient.fc2);
    linear_backward_input(stream, {.dout = dhidden(), .weight = weight.fc2, .dx = dactive_});
    activation_backward(stream, {.function = Activation::gelu, .dout = dactive_, .x = inner_, .dx = dinner_});
  } else {
    // hidden = n + silu(inner)
    activation_backward(stream,
                        {.function = Activation::silu, .dout = dhidden(), .x = inner_, .dx = dinner_});
  }
  // mlp: inner = fc1 · u, medusa: inner = fc1 · n
  backward_weight(dinner_, input(turn.slot), gradient.fc1);
  if (detached_ && !mlp_) return std::nullopt;
  linear_backward_input(stream, {.dout = dinner_, .weight = weight.fc1, .dx = dinput_});
  add(stream, dhidden(), dinput_);
  // u = n + e
  if (mlp_) backward_weight(dinput_, ones_, gradient.embedding);
  if (detached_) return std::nullopt;
  return dinput_;
}

}  // namespace foretoken
