// Compares the whole model's gradients with central differences of its loss, in fp64.

#include "model/objective.h"
#include "tests/support/catch.h"
#include "tests/support/models/tiny_model.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

/// A model on one rank, with two microbatches.
struct Serial {
  static constexpr MicrobatchShape shape{.rows = 2, .length = 5};
  TestStream stream;
  MtpConfig mtp;
  RankModel model;
  TinyBatch first, second;
  std::vector<MicrobatchInput> microbatches;
  std::vector<std::int64_t> counts;

  Serial(const ModelConfig& config, const MtpConfig& mtp_config, bool split_backward,
         Recompute recompute = Recompute::none)
      : mtp(mtp_config),
        model(stream, options(config, mtp_config, split_backward, recompute)),
        first(shape, mtp.depths, config.vocab_size, 1),
        second(shape, mtp.depths, config.vocab_size, 2),
        microbatches{first.input(), second.input()},
        counts(target_counts(microbatches, mtp.depths, shape.length)) {
    model.parameters().initialize(stream, 7);
    // Gives norm weights values that are not all 1, and makes no parameter 0.
    for (const ParameterUnit& unit : model.parameters().units())
      for (const ParameterSpec& spec : unit.specs)
        if (spec.init != Init::normal) fill_normal(model.parameters().value(spec.name), spec.name);
  }

  static RankModelOptions options(const ModelConfig& config, const MtpConfig& mtp, bool split_backward,
                                  Recompute recompute) {
    RankModelOptions result = serial_options(config, mtp, shape, DType::f64, 2, split_backward);
    result.recompute = recompute;
    return result;
  }

  double loss() {
    model.begin_step({.request = StepRequest::evaluation(), .microbatches = microbatches});
    for (int m = 0; m < 2; ++m) model.forward({.microbatch = m, .slot = m});
    return Objective(mtp).losses(model.sums().losses.span<double>(), counts).total;
  }

  void check_gradients(bool split_backward) {
    take_gradients(split_backward);
    for (const ParameterUnit& unit : model.parameters().units()) check_gradients_of(unit);
  }

  void take_gradients(bool split_backward) {
    int finals = 0;
    poison(model.parameters().gradients());  // the step must overwrite every gradient and the padding
    model.begin_step({.request = StepRequest::training(),
                      .microbatches = microbatches,
                      .gradient_scales = gradient_scales(mtp, counts),
                      .unit_final = [&](int) { ++finals; }});
    for (int m = 0; m < 2; ++m) model.forward({.microbatch = m, .slot = m});
    for (int m = 0; m < 2; ++m) {
      CHECK(finals == 0);
      if (split_backward) {
        model.backward_input({.microbatch = m, .slot = m});
      } else {
        model.backward({.microbatch = m, .slot = m});
      }
    }
    if (split_backward)  // in reverse: the second microbatch is then the first to run this half
      for (int m : {1, 0}) model.backward_weight({.microbatch = m, .slot = m});
    CHECK(finals == static_cast<int>(model.parameters().units().size()));
  }

  void check_gradients_of(const ParameterUnit& unit) {
    const ParameterSpec& last = unit.specs.back();
    for (std::int64_t i = last.offset + last.shape.elements(); i < unit.end; ++i)
      REQUIRE(model.parameters().gradients().as<double>()[i] == 0);
    for (const ParameterSpec& spec : unit.specs) {
      INFO(spec.name);
      // Checks every element of the norms and every seventh element of the matrices.
      const std::int64_t stride = spec.shape.rank() == 1 ? 1 : 7;
      CHECK(gradient_mismatch([&] { return loss(); }, model.parameters().value(spec.name),
                              model.parameters().gradient(spec.name), stride) == "");
    }
  }
};

using Concat = MtpConfig::Concat;
using Hidden = MtpConfig::Hidden;

}  // namespace

TEST_CASE("the model's gradients match finite differences for D = 0, 1, 3, tied and untied") {
  const std::int64_t depths = GENERATE(0, 1, 3);
  const bool tied = GENERATE(false, true);
  const bool split_backward = GENERATE(false, true);
  CAPTURE(depths, tied, split_backward);
  ModelConfig config = tiny_model();
  config.tie_word_embeddings = tied;
  Serial(config, {.depths = depths, .main_weight = 1.4, .loss_weight = 0.6}, split_backward)
      .check_gradients(split_backward);
}

TEST_CASE("the model's gradients match finite differences under each convention switch") {
  const auto concat = GENERATE(Concat::embedding_first, Concat::hidden_first);
  const auto trunk_hidden = GENERATE(Hidden::normed, Hidden::raw);
  const auto recycled_hidden = GENERATE(Hidden::normed, Hidden::raw);
  CAPTURE(static_cast<int>(concat), static_cast<int>(trunk_hidden), static_cast<int>(recycled_hidden));
  Serial(tiny_model(),
         {.depths = 2, .concat = concat, .trunk_hidden = trunk_hidden, .recycled_hidden = recycled_hidden},
         false)
      .check_gradients(false);
}

TEST_CASE("the model's gradients match finite differences for every way to recompute") {
  const auto recompute = GENERATE(Recompute::selective, Recompute::full);
  const bool split_backward = GENERATE(false, true);
  if (recompute == Recompute::full && split_backward) return;  // refused, as another test checks
  CAPTURE(static_cast<int>(recompute), split_backward);
  Serial(tiny_model(), {.depths = 2}, split_backward, recompute).check_gradients(split_backward);
}

TEST_CASE("the gradients of every kind of heads match finite differences") {
  const NamedHeads heads = GENERATE(from_range(every_kind_of_heads(3)));
  const bool tied = GENERATE(false, true);
  const bool split_backward = GENERATE(false, true);
  const auto recompute = GENERATE(Recompute::none, Recompute::selective, Recompute::full);
  if (recompute == Recompute::full && split_backward) return;  // refused, as another test checks
  CAPTURE(heads.name, tied, split_backward, static_cast<int>(recompute));
  ModelConfig config = tiny_model();
  config.tie_word_embeddings = tied;
  Serial(config, heads.mtp, split_backward, recompute).check_gradients(split_backward);
}

TEST_CASE("detached heads learn, and the main model has the bits of a run without heads") {
  NamedHeads heads = GENERATE(from_range(every_kind_of_heads(3)));
  const bool tied = GENERATE(false, true);
  const bool split_backward = GENERATE(false, true);
  const auto trunk_hidden = GENERATE(Hidden::normed, Hidden::raw);
  if (trunk_hidden == Hidden::raw && heads.mtp.kind != MtpConfig::Kind::sequential) return;
  CAPTURE(heads.name, tied, split_backward, static_cast<int>(trunk_hidden));
  ModelConfig config = tiny_model();
  config.tie_word_embeddings = tied;
  heads.mtp.detach_heads = true;
  heads.mtp.trunk_hidden = heads.mtp.recycled_hidden = trunk_hidden;
  Serial with(config, heads.mtp, split_backward), without(config, {.depths = 0}, split_backward);
  // The same rows: without heads the look-ahead tokens exist but are not read.
  without.microbatches = with.microbatches;
  without.counts.assign(1, with.counts.front());
  with.take_gradients(split_backward);
  without.take_gradients(split_backward);
  for (const ParameterUnit& unit : with.model.parameters().units()) {
    if (id_of(unit).kind == UnitId::Kind::mtp) {
      with.check_gradients_of(unit);
      continue;
    }
    for (const ParameterSpec& spec : unit.specs) {
      INFO(spec.name);
      CHECK(mismatch(with.model.parameters().gradient(spec.name),
                     without.model.parameters().gradient(spec.name), 0, 0) == "");
    }
  }
}

TEST_CASE("full recomputation with a weight half that runs later is refused") {
  CHECK_THROWS_WITH(Serial(tiny_model(), {.depths = 1}, true, Recompute::full),
                    contains("recompute \"full\"") && contains("weight"));
}
