#include "model/layers/mtp_module.h"

#include "runtime/operators/dispatch.h"
#include "runtime/operators/rowwise/rms_norm.h"
#include "runtime/operators/vocabulary/embedding.h"

namespace foretoken {

std::vector<ParameterSpec> MtpModule::parameters(const ModelConfig& config, const std::string& prefix) {
  const std::int64_t c = config.hidden_size;
  std::vector<ParameterSpec> specs{
      {.name = prefix + ".enorm.weight", .shape = {c}, .decay = false, .init = Init::ones},
      {.name = prefix + ".hnorm.weight", .shape = {c}, .decay = false, .init = Init::ones},
      {.name = prefix + ".eh_proj.weight",
       .shape = {c, 2 * c},
       .std = config.initializer_range,
       .gradient_overwritten = true}};
  for (ParameterSpec& spec : Block::parameters(config, prefix)) specs.push_back(std::move(spec));
  specs.push_back(
      {.name = prefix + ".shared_head.norm.weight", .shape = {c}, .decay = false, .init = Init::ones});
  return specs;
}

MtpModule::MtpModule(const ModelConfig& config, const MtpConfig& mtp, const Parameters& parameters,
                     const std::string& prefix, int depth, const ActivationPlan& plan)
    : depth_(depth),
      join_(config, mtp, parameters, prefix),
      weight_(weights(parameters, parameters.weights(), prefix)),
      gradient_(weights(parameters, parameters.gradients(), prefix)),
      eh_proj_(plan, weight_.eh_proj, gradient_.eh_proj),
      block_(config, parameters, prefix, plan) {}

MtpModule::Weights MtpModule::weights(const Parameters& parameters, const Tensor& flat,
                                      const std::string& prefix) {
  const auto single = [&](const char* name) {
    return Parameters::view(flat, parameters.spec(prefix + name));
  };
  return {.enorm = single(".enorm.weight"),
          .hnorm = single(".hnorm.weight"),
          .eh_proj = single(".eh_proj.weight")};
}

MtpModule::Saved MtpModule::plan_saved(Arena& arena, const ModelConfig& config, const ActivationPlan& plan,
                                       const Block::Scratch& scratch) {
  const std::int64_t n = plan.shape.tokens(), c = config.hidden_size;
  const DType statistics = statistics_dtype(plan.dtype);
  return {.embedded = arena.tensor(plan.dtype, {plan.shape.rows, plan.shape.length, c}),
          .rstd_embedded = arena.tensor(statistics, {n}),
          .rstd_hidden = arena.tensor(statistics, {n}),
          .joined = arena.tensor(plan.dtype, {n, 2 * c}),
          .joined_transposed = plan.fp8 ? plan.fp8->plan_input(2 * c, n) : QuantizedTensor{},
          .projected = arena.tensor(plan.dtype, {n, c}),
          .block = Block::plan_saved(arena, config, plan, scratch)};
}

MtpModule::Gradients MtpModule::plan_gradients(Arena& arena, const ModelConfig& config,
                                               const ActivationPlan& plan, const Block::Scratch& scratch) {
  const std::int64_t n = plan.shape.tokens(), c = config.hidden_size;
  return {.dprojected = arena.tensor(plan.dtype, {n, c}),
          .dprojected_transposed = plan.fp8 ? plan.fp8->plan_gradient(c, n) : QuantizedTensor{},
          .djoined = arena.tensor(plan.dtype, {n, 2 * c}),
          .dembedded = arena.tensor(plan.dtype, {plan.shape.rows, plan.shape.length, c}),
          .block = Block::plan_gradients(arena, config, plan, scratch)};
}

void MtpModule::forward(const LayerContext& context, const Forward& op) const {
  Stream& stream = context.stream;
  const Saved& saved = op.saved;
  embedding_forward(stream, {.tokens = op.tokens, .first = depth_, .table = op.table, .out = saved.embedded});
  join_.norm_embedded(stream, {.x = saved.embedded, .joined = saved.joined, .rstd = saved.rstd_embedded});
  join_.norm_hidden(stream, {.x = op.hidden, .joined = saved.joined, .rstd = saved.rstd_hidden});
  eh_proj_.forward(
      context, {.x = saved.joined, .residual = {}, .out = saved.projected, .kept = saved.joined_transposed});
  block_.forward(context, saved.projected, op.out, saved.block);
}

void MtpModule::backward_input(const LayerContext& context, const BackwardInput& op) const {
  Stream& stream = context.stream;
  const Saved& saved = op.saved;
  const Gradients& gradients = op.gradients;
  block_.backward_input(context, {.dout = op.dout,
                                  .x = saved.projected,
                                  .dx = gradients.dprojected,
                                  .saved = saved.block,
                                  .gradients = gradients.block,
                                  .scratch = op.scratch});
  eh_proj_.backward_input(
      context,
      {.dout = gradients.dprojected, .dx = gradients.djoined, .kept = gradients.dprojected_transposed});
  rms_norm_backward(stream, {.dout = join_.embedded_half(gradients.djoined),
                             .x = saved.embedded,
                             .weight = weight_.enorm,
                             .rstd = saved.rstd_embedded,
                             .dx = gradients.dembedded,
                             .dweight = context.measure_only ? Tensor{} : gradient_.enorm});
  rms_norm_backward(stream, {.dout = join_.hidden_half(gradients.djoined),
                             .x = op.hidden,
                             .weight = weight_.hnorm,
                             .rstd = saved.rstd_hidden,
                             .residual = op.accumulate ? op.dhidden : Tensor{},
                             .dx = op.dhidden,
                             .dweight = context.measure_only ? Tensor{} : gradient_.hnorm});
}

void MtpModule::backward_weight(const LayerContext& context, const BackwardWeight& op) const {
  const Saved& saved = op.saved;
  const Gradients& gradients = op.gradients;
  block_.backward_weight(context, op.dout, saved.block, gradients.block);
  eh_proj_.backward_weight(context, {.dout = gradients.dprojected,
                                     .x = saved.joined,
                                     .kept = {saved.joined_transposed, gradients.dprojected_transposed}});
  if (op.dtable.defined())
    embedding_backward_weight(
        context.stream,
        {.dout = gradients.dembedded, .tokens = op.tokens, .first = depth_, .dtable = op.dtable});
}

}  // namespace foretoken
