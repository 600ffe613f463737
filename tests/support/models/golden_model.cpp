#include "tests/support/models/golden_model.h"

#include <cmath>

#include <fmt/format.h>

#include "io/hdf5/hdf5.h"
#include "model/objective.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "tests/support/models/tiny_model.h"
#include "tests/support/source_tree.h"

namespace foretoken::testing {

const std::vector<GoldenCase>& golden_cases() {
  using Kind = MtpConfig::Kind;
  static const std::vector<GoldenCase> cases{
      {.name = "main_only", .mtp = {.depths = 0, .loss_weight = 0.6}},
      {.name = "deepseek",
       .mtp = {.depths = 2, .loss_weight = 0.6},
       .head_tensors = 2 * 13,
       .within_documents = true},
      {.name = "paper_tied",
       .mtp = {.depths = 3,
               .concat = MtpConfig::Concat::hidden_first,
               .trunk_hidden = MtpConfig::Hidden::raw,
               .recycled_hidden = MtpConfig::Hidden::raw,
               .loss_weight = 0.6},
       .head_tensors = 3 * 13,
       .tied = true},
      {.name = "repeated",
       .mtp = {.depths = 3, .repeat = true, .loss_weight = 0.6},
       .head_tensors = 13,
       .within_documents = true},
      {.name = "parallel",
       .mtp = {.kind = Kind::parallel, .depths = 3, .loss_weight = 0.6},
       .head_tensors = 3 * 9,
       .within_documents = true},
      {.name = "parallel_tied",
       .mtp = {.kind = Kind::parallel, .depths = 2, .loss_weight = 0.6},
       .head_tensors = 2 * 9,
       .tied = true},
      {.name = "residual",
       .mtp = {.kind = Kind::residual, .depths = 3, .loss_weight = 0.6},
       .head_tensors = 3 * 3,
       .tied = true,
       .within_documents = true},
      {.name = "medusa",
       .mtp = {.kind = Kind::residual,
               .depths = 3,
               .residual_form = MtpConfig::ResidualForm::medusa,
               .loss_weight = 0.6},
       .head_tensors = 3,
       .within_documents = true},
      {.name = "linear",
       .mtp = {.kind = Kind::linear, .depths = 3, .loss_weight = 0.6},
       .head_tensors = 3,
       .tied = true,
       .within_documents = true}};
  return cases;
}

std::vector<GoldenComparison> run_golden(Stream& stream, const GoldenCase& golden, DType activations) {
  const Hdf5File file = Hdf5File::open(in_source_tree("tests/golden/model_golden.h5"));
  std::vector<GoldenComparison> results;
  // A result without a name keeps alive the memory of tensors that are only read; it is removed at the end.
  const auto read = [&](const std::string& object) {
    const Hdf5Dataset dataset = file.dataset("/" + golden.name + "/" + object);
    Arena& arena =
        *results.emplace_back(GoldenComparison{.arena = std::make_shared<Arena>(DeviceKind::cpu)}).arena;
    const Tensor tensor = arena.tensor(dataset.dtype(), dataset.shape());
    dataset.read(tensor);
    if (dataset.has_attribute("rounding_noise"))
      results.back().rounding_noise = dataset.f64_attribute("rounding_noise");
    return tensor;
  };
  const auto compare = [&](const std::string& object, const Tensor& actual) {
    const Tensor expected = read(object);
    GoldenComparison& result = results.back();
    result.object = object;
    result.expected = expected;
    Tensor raw = result.arena->tensor(actual.dtype, actual.shape);
    copy(stream, actual, raw);
    stream.synchronize();
    result.actual = raw;
    if (raw.dtype == DType::bf16) {
      result.actual = result.arena->tensor(DType::f32, raw.shape);
      convert(TestStream(), raw, result.actual);
    }
  };

  ModelConfig config = tiny_model();
  config.tie_word_embeddings = golden.tied;
  const MicrobatchShape shape{.rows = 2, .length = 12};
  RankModelOptions options = serial_options(config, golden.mtp, shape, DType::f32, 1);
  options.activations = activations;
  options.attention_across_documents = !golden.within_documents;
  RankModel model(stream, options);
  for (const ParameterUnit& unit : model.parameters().units())
    for (const ParameterSpec& spec : unit.specs)
      copy(stream, read("weights/" + spec.name), model.parameters().value(spec.name));
  model.parameters().round_weights(stream);

  const std::vector<MicrobatchInput> batch{
      {.tokens = read("tokens"), .document_start = read("document_start")}};
  const auto counts = target_counts(batch, golden.mtp.depths, shape.length);
  model.begin_step({.request = StepRequest::training(),
                    .microbatches = batch,
                    .gradient_scales = gradient_scales(golden.mtp, counts)});
  model.forward({});
  Arena device(stream.device());
  const Tensor logits = device.tensor(activations, {shape.tokens(), config.vocab_size});
  for (int depth = 0; depth <= golden.mtp.depths; ++depth) {
    model.logits({.depth = depth, .out = logits});
    compare(fmt::format("logits/{}", depth), logits);
  }
  model.backward({});

  compare("losses", model.sums().losses);
  double* sums = results.back().actual.as<double>();
  for (std::size_t k = 0; k < counts.size(); ++k) sums[k] /= static_cast<double>(counts[k]);
  for (const ParameterUnit& unit : model.parameters().units())
    for (const ParameterSpec& spec : unit.specs)
      compare("gradients/" + spec.name, model.parameters().gradient(spec.name));
  std::erase_if(results, [](const GoldenComparison& result) { return result.object.empty(); });
  return results;
}

}  // namespace foretoken::testing
