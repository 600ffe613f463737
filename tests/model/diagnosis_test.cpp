// Compares the measurements of a diagnosed step with counts and gradients computed in another way; tests
// steps that train only some depths.
#include <algorithm>
#include <cmath>
#include <map>

#include "model/depth_sampler.h"
#include "model/objective.h"
#include "runtime/timing/profile.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/models/tiny_model.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

constexpr MicrobatchShape shape{.rows = 3, .length = 12};

std::vector<std::int32_t> argmax_rows(const Tensor& logits) {
  const std::int64_t v = logits.shape[1];
  std::vector<std::int32_t> result;
  for (std::int64_t n = 0; n < logits.shape[0]; ++n) {
    const double* row = logits.as<double>() + n * v;
    result.push_back(static_cast<std::int32_t>(std::max_element(row, row + v) - row));
  }
  return result;
}

/// One rank, two microbatches with documents, norm weights that are not all one.
struct Serial {
  MtpConfig mtp;
  TestStream stream;
  RankModel model;
  TinyBatch first, second;
  std::vector<MicrobatchInput> inputs;
  std::vector<double> scales;

  Serial(const MtpConfig& mtp_config, RankModelOptions options, const MicrobatchShape& size = shape)
      : mtp(mtp_config),
        model(stream, options),
        first(size, mtp.depths, 11, 1),
        second(size, mtp.depths, 11, 2),
        inputs{first.input(), second.input()},
        scales(gradient_scales(mtp, target_counts(inputs, mtp.depths, size.length))) {
    model.parameters().initialize(stream, 3);
    for (const ParameterUnit& unit : model.parameters().units())
      for (const ParameterSpec& spec : unit.specs)
        if (spec.init != Init::normal) fill_normal(model.parameters().value(spec.name), spec.name);
  }

  void step(bool diagnose, bool split_backward = false) {
    poison(model.parameters().gradients());
    model.begin_step({.request = diagnose ? model.diagnosis() : StepRequest::training(),
                      .microbatches = inputs,
                      .gradient_scales = scales});
    for (int m = 0; m < 2; ++m) model.forward({.microbatch = m, .slot = m});
    for (int m = 0; m < 2; ++m)
      split_backward ? model.backward_input({.microbatch = m, .slot = m})
                     : model.backward({.microbatch = m, .slot = m});
    for (int m = 0; split_backward && m < 2; ++m) model.backward_weight({.microbatch = m, .slot = m});
  }

  std::vector<double> gradients() {
    const auto all = model.parameters().gradients().span<double>();
    return {all.begin(), all.end()};
  }
};

MtpConfig diagnosed(MtpConfig mtp) {
  mtp.diagnose_every = 1;
  return mtp;
}

}  // namespace

TEST_CASE("acceptance in training and in evaluation equals a count over all logits") {
  const NamedHeads heads = GENERATE(from_range(every_kind_of_heads(3)));
  CAPTURE(heads.name);
  Serial serial(heads.mtp, serial_options(tiny_model(), heads.mtp, shape, DType::f64, 2));
  const std::int64_t d = heads.mtp.depths, t = shape.length;

  std::vector<double> drafts(static_cast<std::size_t>(d)), accepted(drafts.size());
  serial.model.begin_step({.request = StepRequest::evaluation(), .microbatches = serial.inputs});
  for (int m = 0; m < 2; ++m) {
    serial.model.forward({.microbatch = m, .slot = m});
    std::vector<std::vector<std::int32_t>> predicted;
    for (int k = 0; k <= d; ++k) {
      Arena arena(DeviceKind::cpu);
      const Tensor logits = arena.tensor(DType::f64, {shape.tokens(), 11});
      serial.model.logits({.depth = k, .microbatch = m, .slot = m, .out = logits});
      predicted.push_back(argmax_rows(logits));
    }
    const std::int32_t* start = serial.inputs[static_cast<std::size_t>(m)].document_start.as<std::int32_t>();
    for (std::int64_t b = 0; b < shape.rows; ++b)
      for (std::int64_t i = 0; i < t; ++i) {
        bool all_agree = true;
        for (std::int64_t k = 1; k <= d && i + k < t; ++k) {
          const auto of = static_cast<std::size_t>(k);
          all_agree = all_agree && predicted[of][static_cast<std::size_t>(b * t + i)] ==
                                       predicted[0][static_cast<std::size_t>(b * t + i + k)];
          const std::int32_t* row = start + b * (t + 1 + d);
          if (row[i + k + 1] != row[i]) continue;
          ++drafts[of - 1];
          accepted[of - 1] += all_agree;
        }
      }
  }
  CHECK(accepted[0] > 0);
  CHECK(accepted[0] < drafts[0]);
  const auto check = [&] {
    const StepSums& sums = serial.model.sums();
    CHECK(std::vector(sums.drafts.as<double>(), sums.drafts.as<double>() + d) == drafts);
    CHECK(std::vector(sums.accepted.as<double>(), sums.accepted.as<double>() + d) == accepted);
  };
  check();
  serial.step(true);
  check();
  serial.step(false);
  for (std::int64_t i = d + 1; i < StepSums::elements(d); ++i)
    CHECK(serial.model.sums().all.as<double>()[i] == 0);
}

namespace {

/// A last stage whose input the test sets, so that losses are functions of the tensor that heads read. The ε
/// of the norms is so large that 1/rms is almost constant and the norms are almost linear.
struct LastStage {
  static constexpr double eps = 1e8, scale = 1e4;  // √ε
  static constexpr MicrobatchShape size{.rows = 2, .length = 5};
  Serial serial;
  bool takes_input;  // heads read the stage's input; otherwise they read its norm
  std::int64_t depths;

  LastStage(const MtpConfig& mtp, Recompute recompute, bool split_backward)
      : serial(mtp, options(mtp, recompute, split_backward), size),
        takes_input(mtp.kind == MtpConfig::Kind::parallel || mtp.trunk_hidden == MtpConfig::Hidden::raw),
        depths(mtp.depths) {
    for (const ParameterUnit& unit : serial.model.parameters().units())
      for (const ParameterSpec& spec : unit.specs)
        if (spec.init == Init::ones)
          for (double& weight : serial.model.parameters().value(spec.name).span<double>()) weight *= scale;
  }

  static RankModelOptions options(const MtpConfig& mtp, Recompute recompute, bool split_backward) {
    ModelConfig model = tiny_model();
    model.rms_norm_eps = eps;
    RankModelOptions options = serial_options(model, mtp, size, DType::f64, 2, split_backward);
    options.recompute = recompute;
    options.layout.grid.virtual_stages = 2;
    options.layout.halves_per_stage = {2, 2};
    if (mtp.kind != MtpConfig::Kind::parallel) options.layout.halves_per_stage = {4, 0};
    options.slots = {1, 2};
    return options;
  }

  void feed(int slot) {
    fill_normal(serial.model.activation_in({.stage = 1, .microbatch = slot, .slot = slot}),
                "trunk " + std::to_string(slot));
  }

  /// The weighted losses of microbatch m, by depth.
  std::vector<double> losses(int m) {
    serial.model.begin_step({.request = StepRequest::evaluation(), .microbatches = serial.inputs});
    serial.model.forward({.stage = 1, .microbatch = m, .slot = m});
    std::vector<double> result;
    for (int k = 0; k <= depths; ++k)
      result.push_back(serial.model.sums().losses.as<double>()[k] *
                       serial.scales[static_cast<std::size_t>(k)]);
    return result;
  }
};

}  // namespace

TEST_CASE("the gradient of each depth at the trunk matches finite differences") {
  NamedHeads heads = GENERATE(from_range(every_kind_of_heads(3)));
  const auto trunk = GENERATE(MtpConfig::Hidden::normed, MtpConfig::Hidden::raw);
  const auto recycled = GENERATE(MtpConfig::Hidden::normed, MtpConfig::Hidden::raw);
  const auto recompute = GENERATE(Recompute::none, Recompute::selective, Recompute::full);
  const bool split_backward = GENERATE(false, true);
  const bool sequential = heads.mtp.kind == MtpConfig::Kind::sequential;
  if (!sequential && (trunk == MtpConfig::Hidden::raw || recycled == MtpConfig::Hidden::raw)) return;
  if (recompute == Recompute::full && split_backward) return;  // refused
  CAPTURE(heads.name, static_cast<int>(trunk), static_cast<int>(recycled), static_cast<int>(recompute),
          split_backward);
  heads.mtp.trunk_hidden = trunk;
  heads.mtp.recycled_hidden = recycled;
  LastStage last(diagnosed(heads.mtp), recompute, split_backward);
  RankModel& model = last.serial.model;
  const std::size_t d = static_cast<std::size_t>(last.depths);

  std::vector<double> squares(d + 1), products(d);
  for (int m = 0; m < 2; ++m) {
    last.feed(m);
    const Tensor x = model.activation_in({.stage = 1, .microbatch = m, .slot = m});
    for (std::int64_t i = 0; i < x.elements(); ++i) {
      double& at = x.as<double>()[i];
      const double value = at, step = 1e-5;
      at = value + step;
      const std::vector<double> above = last.losses(m);
      at = value - step;
      const std::vector<double> below = last.losses(m);
      at = value;
      // normed = x / √ε · w
      const double dx_dread =
          last.takes_input
              ? 1
              : LastStage::scale / model.parameters().value("model.norm.weight").as<double>()[i % 8];
      const auto gradient = [&](std::size_t k) { return (above[k] - below[k]) / (2 * step) * dx_dread; };
      for (std::size_t k = 0; k <= d; ++k) squares[k] += gradient(k) * gradient(k);
      for (std::size_t k = 1; k <= d; ++k) products[k - 1] += gradient(k) * gradient(0);
    }
  }
  model.begin_step({.request = model.diagnosis(),
                    .microbatches = last.serial.inputs,
                    .gradient_scales = last.serial.scales});
  for (int m = 0; m < 2; ++m) {
    last.feed(m);
    model.forward({.stage = 1, .microbatch = m, .slot = m});
  }
  for (int m = 0; m < 2; ++m)
    split_backward ? model.backward_input({.stage = 1, .microbatch = m, .slot = m})
                   : model.backward({.stage = 1, .microbatch = m, .slot = m});
  for (std::size_t k = 0; k <= d; ++k) {
    CAPTURE(k);
    CHECK(squares[k] > 0);
    CHECK(model.sums().squares.as<double>()[k] == Approx(squares[k]).epsilon(1e-5));
    if (k > 0)
      CHECK(std::abs(model.sums().products.as<double>()[k - 1] - products[k - 1]) <
            1e-5 * std::sqrt(squares[0] * squares[k]));
  }
}

TEST_CASE("a step that measures computes the same gradients, bit for bit, as one that does not") {
  NamedHeads heads = GENERATE(from_range(every_kind_of_heads(3)));
  heads.mtp.detach_heads = GENERATE(false, true);
  const auto hidden = GENERATE(MtpConfig::Hidden::normed, MtpConfig::Hidden::raw);
  const auto recompute = GENERATE(Recompute::none, Recompute::selective, Recompute::full);
  const bool split_backward = GENERATE(false, true);
  if (heads.mtp.kind != MtpConfig::Kind::sequential && hidden == MtpConfig::Hidden::raw) return;
  if (recompute == Recompute::full && split_backward) return;  // refused
  CAPTURE(heads.name, heads.mtp.detach_heads, static_cast<int>(hidden), static_cast<int>(recompute),
          split_backward);
  heads.mtp.trunk_hidden = heads.mtp.recycled_hidden = hidden;
  const MtpConfig mtp = diagnosed(heads.mtp);
  RankModelOptions options = serial_options(tiny_model(), mtp, shape, DType::f64, 2, split_backward);
  options.recompute = recompute;
  Serial serial(mtp, options);
  serial.step(false, split_backward);
  const std::vector<double> plain = serial.gradients();
  serial.step(true, split_backward);
  CHECK(serial.gradients() == plain);
}

TEST_CASE("a step computes what it requests and refuses the rest") {
  const MtpConfig plain{.depths = 2};
  MtpConfig detached = diagnosed(plain);
  detached.detach_heads = true;
  const auto refused = [](const MtpConfig& mtp, const StepRequest& request, const char* message) {
    Serial serial(mtp, serial_options(tiny_model(), mtp, shape, DType::f64, 2));
    expect_error<DefectError>(message, [&] {
      serial.model.begin_step(
          {.request = request, .microbatches = serial.inputs, .gradient_scales = serial.scales});
      serial.model.forward({});
      serial.model.backward({});
    });
  };
  const StepRequest all{.gradients = true, .acceptance = true, .trunk_gradients = true};
  refused(plain, all, "gradients at the trunk, but the model does not measure them");
  refused(detached, all, "gradients at the trunk, but the model does not measure them");
  refused(diagnosed(plain), {.trunk_gradients = true}, "gradients at the trunk, but not gradients");
  refused(plain, StepRequest::evaluation(), "requests no gradients");

  // A step that requests only losses counts no drafts.
  Serial serial(plain, serial_options(tiny_model(), plain, shape, DType::f64, 2));
  serial.model.begin_step({.request = {}, .microbatches = serial.inputs});
  for (int m = 0; m < 2; ++m) serial.model.forward({.microbatch = m, .slot = m});
  const StepSums& sums = serial.model.sums();
  for (int k = 0; k <= 2; ++k) CHECK(sums.losses.as<double>()[k] > 0);
  for (int k = 0; k < 2; ++k) CHECK(sums.drafts.as<double>()[k] == 0);
}

TEST_CASE("a step that samples depths trains the drawn depths and zeroes the other gradients") {
  const NamedHeads heads = GENERATE(from_range(every_kind_of_heads(3)));
  const bool split_backward = GENERATE(false, true);
  const auto hidden = GENERATE(MtpConfig::Hidden::normed, MtpConfig::Hidden::raw);
  const bool sequential = heads.mtp.kind == MtpConfig::Kind::sequential;
  if (!sequential && hidden == MtpConfig::Hidden::raw) return;
  CAPTURE(heads.name, split_backward, static_cast<int>(hidden));
  MtpConfig mtp = heads.mtp;
  mtp.trunk_hidden = mtp.recycled_hidden = hidden;
  Serial serial(mtp, serial_options(tiny_model(), mtp, shape, DType::f64, 2, split_backward));
  // Trains both microbatches with every set of depths, once as a DepthSet and once by setting the scales of
  // the other depths to zero.
  const std::vector<double> full = serial.scales;
  serial.step(false, split_backward);  // fills all buffers, so that a zero found later was written
  for (int bits = 0; bits < 8; ++bits) {
    DepthSet depths;
    std::vector<double> scales = full;
    for (int k = 1; k <= 3; ++k) {
      if ((bits >> (k - 1) & 1) != 0)
        depths.insert(k);
      else
        scales[static_cast<std::size_t>(k)] = 0;
    }
    if (sequential && bits != 0 && bits != 1 && bits != 3 && bits != 7) continue;  // prefixes only
    CAPTURE(bits);
    for (MicrobatchInput& input : serial.inputs) input.depths = depths;
    serial.scales = full;
    serial.step(false, split_backward);
    const std::vector<double> drawn = serial.gradients();
    for (MicrobatchInput& input : serial.inputs) input.depths = DepthSet::all();
    serial.scales = scales;
    serial.step(false, split_backward);
    const std::vector<double> weighted = serial.gradients();
    double difference = 0, size = 0;
    for (std::size_t i = 0; i < drawn.size(); ++i) {
      difference = std::max(difference, std::abs(drawn[i] - weighted[i]));
      size = std::max(size, std::abs(weighted[i]));
      if (std::isnan(drawn[i])) FAIL("a gradient was left as it was");
    }
    CHECK(difference < 1e-13 * size);
  }
}

TEST_CASE("microbatches of a step may train different depths") {
  const NamedHeads heads = GENERATE(from_range(every_kind_of_heads(3)));
  const bool first_trains = GENERATE(false, true);
  CAPTURE(heads.name, first_trains);
  Serial serial(heads.mtp, serial_options(tiny_model(), heads.mtp, shape, DType::f64, 2));
  // The gradient of both microbatches equals the sum of two gradients, each with one microbatch and one
  // without valid targets.
  const std::vector<MicrobatchInput> both = serial.inputs;
  const auto with = [&](bool first, bool second) {
    Arena arena(DeviceKind::cpu);
    serial.inputs = both;
    serial.inputs[first_trains ? 1 : 0].depths = DepthSet();
    for (const auto& [m, counts] : {std::pair{0, first}, std::pair{1, second}}) {
      if (counts) continue;
      Tensor& start = serial.inputs[static_cast<std::size_t>(m)].document_start;
      const Tensor none = arena.tensor(DType::i32, start.shape);
      std::fill_n(none.as<std::int32_t>(), none.elements(), -1);
      start = none;
    }
    serial.step(false);
    return serial.gradients();
  };
  const std::vector<double> together = with(true, true), first = with(true, false),
                            second = with(false, true);
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < together.size(); ++i) {
    REQUIRE_FALSE(std::isnan(together[i]));
    difference = std::max(difference, std::abs(together[i] - first[i] - second[i]));
    size = std::max(size, std::abs(together[i]));
  }
  CHECK(difference < 1e-13 * size);
}

TEST_CASE("the mean gradient over sampled depths equals the gradient of all depths within its error") {
  const auto kind = GENERATE(MtpConfig::Kind::sequential, MtpConfig::Kind::linear);
  MtpConfig mtp{.kind = kind, .depths = 3, .loss_weight = 0.9, .balance = MtpConfig::Balance::sampling};
  mtp.sample_probabilities = {0.8, 0.5, 0.25};
  Serial serial(mtp, serial_options(tiny_model(), mtp, shape, DType::f64, 2));
  serial.step(false);
  const std::vector<double> full = serial.gradients();

  const DepthSampler sampler(mtp, 5);
  sampler.weigh(serial.scales);
  constexpr int draws = 600;
  std::vector<double> mean(full.size()), square(full.size());
  for (int draw = 0; draw < draws; ++draw) {
    for (int m = 0; m < 2; ++m)
      serial.inputs[static_cast<std::size_t>(m)].depths = sampler.draw(draw * 6 + m * 3);
    serial.step(false);
    const std::vector<double> gradients = serial.gradients();
    for (std::size_t i = 0; i < full.size(); ++i) {
      mean[i] += gradients[i] / draws;
      square[i] += gradients[i] * gradients[i] / draws;
    }
  }
  // Compares the mean with the full gradient: `worst` is the largest difference of an element, in standard
  // deviations of the mean; `along` the component in the direction of the full gradient.
  double worst = 0, along = 0, length = 0;
  for (std::size_t i = 0; i < full.size(); ++i) {
    const double deviation = std::sqrt(std::max(0.0, square[i] - mean[i] * mean[i]) / draws);
    worst = std::max(worst, std::abs(mean[i] - full[i]) / (deviation + 1e-12));
    along += mean[i] * full[i];
    length += full[i] * full[i];
  }
  CHECK(worst < 5);
  CHECK(along / length == Approx(1).epsilon(0.1));
}

TEST_CASE("depths that are not drawn run no operator") {
  const NamedHeads heads = GENERATE(from_range(every_kind_of_heads(3)));
  CAPTURE(heads.name);
  const auto calls_with = [&](int deepest) {
    Profile profile;
    MtpConfig mtp = heads.mtp;
    mtp.depths = deepest < 0 ? -deepest : 3;
    Serial serial(mtp, serial_options(tiny_model(), mtp, shape, DType::f64, 2));
    DepthSet depths;
    for (int k = 1; k <= deepest; ++k) depths.insert(k);
    if (deepest >= 0)
      for (MicrobatchInput& input : serial.inputs) input.depths = depths;
    static_cast<Stream&>(serial.stream).set_profile(&profile);
    serial.step(false);
    static_cast<Stream&>(serial.stream).set_profile(nullptr);
    std::map<std::string, std::int64_t> calls;
    for (const auto& [name, entry] : profile.entries())
      if (name != "set_zero") calls[name] = entry.calls;
    return calls;
  };
  // With depths 1 to k drawn, every operator is called as often as in a model of k depths.
  for (int deepest = 1; deepest <= 3; ++deepest) CHECK(calls_with(deepest) == calls_with(-deepest));
  auto none = calls_with(0), one = calls_with(1);
  CHECK(none["cross_entropy_rows"] == 2);
  CHECK(one["cross_entropy_rows"] == 4);
}
