// Parity with PyTorch and transformers' Llama layers: values in tests/golden/model_golden.h5, made by
// tests/golden/make_model_golden.py in fp32.

#include <string>
#include <vector>

#include <fmt/format.h>

#include "io/hdf5.h"
#include "model/objective.h"
#include "runtime/operators/elementwise.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

struct GoldenCase {
  std::string name;
  MtpConfig mtp;
  bool tied = false;
  bool within_documents = false;
};

const std::vector<GoldenCase> cases{
    {.name = "main_only", .mtp = {.depths = 0, .loss_weight = 0.6}},
    {.name = "deepseek", .mtp = {.depths = 2, .loss_weight = 0.6}, .within_documents = true},
    {.name = "paper_tied",
     .mtp = {.depths = 3,
             .concat = MtpConfig::Concat::hidden_first,
             .trunk_hidden = MtpConfig::Hidden::raw,
             .recycled_hidden = MtpConfig::Hidden::raw,
             .loss_weight = 0.6},
     .tied = true}};

}  // namespace

TEST_CASE("logits, losses and every gradient equal those of PyTorch with transformers' Llama layers") {
  const GoldenCase& golden = cases[static_cast<std::size_t>(GENERATE(0, 1, 2))];
  CAPTURE(golden.name);
  const Hdf5File file = Hdf5File::open(FORETOKEN_SOURCE_DIR "/tests/golden/model_golden.h5");
  Arena arena{DeviceKind::cpu};
  const auto read = [&](const std::string& object) {
    const Hdf5Dataset dataset = file.dataset("/" + golden.name + "/" + object);
    const Tensor tensor = arena.tensor(dataset.dtype(), dataset.shape());
    dataset.read(tensor);
    return tensor;
  };

  ModelConfig config = tiny_model();
  config.tie_word_embeddings = golden.tied;
  const MicrobatchShape shape{.rows = 2, .length = 12};
  TestStream stream;
  RankModelOptions options = serial_options(config, golden.mtp, shape, DType::f32, 1);
  options.attention_across_documents = !golden.within_documents;
  RankModel model(stream, options);
  std::size_t parameters = 0;
  for (const ParameterUnit& unit : model.parameters().units())
    for (const ParameterSpec& spec : unit.specs) {
      copy(stream, read("weights/" + spec.name), model.parameters().value(spec.name));
      ++parameters;
    }
  CHECK(parameters == 3 + 9 * 2 + 13 * static_cast<std::size_t>(golden.mtp.depths) - (golden.tied ? 1 : 0));

  const std::vector<MicrobatchInput> batch{
      {.tokens = read("tokens"), .document_start = read("document_start")}};
  const auto counts = target_counts(batch, golden.mtp.depths, shape.length);
  model.begin_step({.microbatches = batch, .gradient_scales = gradient_scales(golden.mtp, counts)});
  model.forward(0, 0, 0);
  const Tensor logits = arena.tensor(DType::f32, {shape.tokens(), config.vocab_size});
  for (int depth = 0; depth <= golden.mtp.depths; ++depth) {
    INFO("depth " << depth);
    model.logits(0, depth, logits);
    CHECK(mismatch(logits, read(fmt::format("logits/{}", depth)), 1e-5, 1e-5) == "");
  }
  model.backward(0, 0, 0);

  const Objective::Losses losses = Objective(golden.mtp).losses(model.losses().span<double>(), counts);
  const Tensor expected = read("losses");
  for (std::size_t k = 0; k < losses.depths.size(); ++k)
    CHECK(losses.depths[k] == Approx(expected.as<double>()[k]).epsilon(1e-6));
  for (const ParameterUnit& unit : model.parameters().units())
    for (const ParameterSpec& spec : unit.specs) {
      INFO(spec.name);
      CHECK(mismatch(model.parameters().gradient(spec.name), read("gradients/" + spec.name), 1e-4, 1e-6) ==
            "");
    }
}
