// Tests the memory and cost of prediction heads, and that documents in one row do not affect each other.

#include <algorithm>

#include "model/cost.h"
#include "model/layout.h"
#include "model/objective.h"
#include "model/parameter_names.h"
#include "runtime/random.h"
#include "tests/support/catch.h"
#include "tests/support/models/tiny_model.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

constexpr MicrobatchShape row{.rows = 1, .length = 24};

/// Sums of the losses of one row of tokens, by depth.
std::vector<double> loss_sums(RankModel& model, const MicrobatchInput& input) {
  model.begin_step({.request = StepRequest::evaluation(), .microbatches = {&input, 1}});
  model.forward({});
  const auto sums = model.sums().losses.span<double>();
  return {sums.begin(), sums.end()};
}

struct Row {
  Arena arena{DeviceKind::cpu};
  MicrobatchInput input;

  explicit Row(std::int64_t depths)
      : input{arena.tensor(DType::i32, {1, row.length + 1 + depths}),
              arena.tensor(DType::i32, {1, row.length + 1 + depths})} {}
  void set(std::int64_t at, std::int32_t token, std::int32_t start) const {
    input.tokens.as<std::int32_t>()[at] = token;
    input.document_start.as<std::int32_t>()[at] = start;
  }
};

}  // namespace

TEST_CASE("short documents packed into one row have the same losses at every depth as in rows of their own") {
  const NamedHeads heads = GENERATE(from_range(every_kind_of_heads(3)));
  CAPTURE(heads.name);
  const std::int64_t depths = heads.mtp.depths;
  TestStream stream;
  RankModel model(stream, serial_options(tiny_model(), heads.mtp, row, DType::f64, 1));
  model.parameters().initialize(stream, 5);
  const CounterRng rng(1, "packed");
  const auto token = [&](std::int64_t at) {
    return static_cast<std::int32_t>(rng.u64(static_cast<std::uint64_t>(at)) % 11);
  };

  const Row packed(depths);
  std::vector<double> alone(static_cast<std::size_t>(depths) + 1);
  std::vector<std::int64_t> alone_counts(alone.size()), packed_counts(alone.size());
  std::int64_t begin = 0;
  for (const std::int64_t length : {5, 1, 2, 7, 4, 2, 3}) {
    const Row single(depths);
    for (std::int64_t i = 0; i < single.input.tokens.elements(); ++i) single.set(i, 0, -1);
    for (std::int64_t i = 0; i < length; ++i) {
      single.set(i, token(begin + i), 0);
      packed.set(begin + i, token(begin + i), static_cast<std::int32_t>(begin));
    }
    const std::vector<double> sums = loss_sums(model, single.input);
    for (std::size_t k = 0; k < alone.size(); ++k) alone[k] += sums[k];
    add_target_counts(single.input, row.length, alone_counts);
    begin += length;
  }
  REQUIRE(begin == row.length);
  for (std::int64_t i = begin; i < packed.input.tokens.elements(); ++i)
    packed.set(i, token(i), static_cast<std::int32_t>(begin));
  add_target_counts(packed.input, row.length, packed_counts);
  CHECK(packed_counts == alone_counts);
  const std::vector<double> together = loss_sums(model, packed.input);
  for (std::size_t k = 0; k < alone.size(); ++k) {
    CAPTURE(k);
    CHECK(std::abs(together[k] - alone[k]) < 1e-10 * alone[k]);
  }
}

namespace {

/// Planned bytes of a model of 12 layers, and the bytes of its parameters and their gradients.
struct Memory {
  double planned, parameters;
};

Memory memory_of(MtpConfig::Kind kind, std::int64_t depths, Recompute recompute, bool split_backward) {
  ModelConfig config = tiny_model();
  config.num_hidden_layers = 12;
  config.hidden_size = 64;
  config.intermediate_size = 172;
  config.head_dim = 16;
  config.vocab_size = 1000;
  MtpConfig mtp;
  mtp.kind = kind;
  mtp.depths = depths;
  RankModelOptions options =
      serial_options(config, mtp, {.rows = 2, .length = 256}, DType::f32, 4, split_backward);
  options.recompute = recompute;
  TestStream stream;
  RankModel model(stream, options);
  return {static_cast<double>(model.memory().use().total()),
          2.0 * static_cast<double>(model.parameters().values().bytes())};
}

}  // namespace

TEST_CASE("four parallel heads need memory for four heads' weights and one head's activations") {
  const auto recompute = GENERATE(Recompute::none, Recompute::selective, Recompute::full);
  const bool split_backward = GENERATE(false, true);
  if (recompute == Recompute::full && split_backward) return;
  CAPTURE(static_cast<int>(recompute), split_backward);
  const auto kind = MtpConfig::Kind::parallel;
  const Memory none = memory_of(kind, 0, recompute, split_backward),
               one = memory_of(kind, 1, recompute, split_backward),
               three = memory_of(kind, 3, recompute, split_backward);
  // The four heads are the main head and three prediction heads.
  CHECK(three.planned - three.parameters < 1.1 * (none.planned - none.parameters));
  // Beyond the first prediction head, a head adds only parameters and alignment.
  CHECK(std::abs((three.planned - three.parameters) - (one.planned - one.parameters)) < 4096);
}

TEST_CASE("the activation memory of heads in turn does not grow with their number") {
  const auto kind = GENERATE(MtpConfig::Kind::residual, MtpConfig::Kind::linear);
  const Memory one = memory_of(kind, 1, Recompute::none, false),
               four = memory_of(kind, 4, Recompute::none, false);
  CHECK(std::abs((four.planned - four.parameters) - (one.planned - one.parameters)) < 4096);
}

TEST_CASE("costs and parameter counts of every kind equal a count by hand") {
  const ModelConfig model = tiny_model();  // C 8, L 2, NH 4, NKV 2, HS 4, F 12, V 11
  const std::int64_t block = 8 * 16 + 2 * 8 * 8 + 16 * 8 + 3 * 8 * 12, norms = 2 * 8;
  const std::int64_t main = 2 * (block + norms) + 8 + 2 * 11 * 8;
  const std::int64_t d = 3, length = 10;
  const double attention = 2.0 * length * 16;
  const auto check = [&](const std::string& name, std::int64_t parameters, double flops_of_a_depth) {
    for (const NamedHeads& heads : every_kind_of_heads(d))
      if (heads.name == name) {
        INFO(name);
        CHECK(parameter_count(model, heads.mtp) == main + parameters);
        CHECK(predictor_cost(model, heads.mtp, cost_of(model, length)) ==
              d * flops_of_a_depth + (d + 1) * 2.0 * 8 * 11);
      }
  };
  const std::int64_t module = block + norms + 3 * 8 + 2 * 8 * 8;
  check("sequential", d * module, 2.0 * (block + 2 * 8 * 8) + attention);
  check("repeated", module, 2.0 * (block + 2 * 8 * 8) + attention);
  check("parallel", d * (block + norms), 2.0 * block + attention);
  check("residual", d * (8 + 2 * 8 * 12), 2.0 * 2 * 8 * 12);
  check("medusa", d * 8 * 8, 2.0 * 8 * 8);
  check("linear", d * 11 * 8, 0);
  check("medusa with matrices", d * (8 * 8 + 11 * 8), 2.0 * 8 * 8);
  MtpConfig sampled{
      .depths = d, .balance = MtpConfig::Balance::sampling, .sample_probabilities = {1, 0.5, 0.25}};
  const double depth = 2.0 * (block + 2 * 8 * 8) + attention + 2.0 * 8 * 11;
  CHECK(predictor_cost(model, sampled, cost_of(model, length)) == 1.75 * depth + 2.0 * 8 * 11);
  CHECK(cost_of(model, length).attention == 2.0 * (8 * 16 + 2 * 8 * 8 + 16 * 8) + attention);
  CHECK(cost_of(model, length).mlp == 2.0 * 3 * 8 * 12);
  CHECK(time_of(model, length).attention ==
        cost_of(model, length).attention + (attention_time - 1) * attention);
}

TEST_CASE(
    "output matrices of heads start as copies of the model's for tied and untied embeddings and any seed") {
  const bool tied = GENERATE(false, true);
  ModelConfig config = tiny_model();
  config.tie_word_embeddings = tied;
  const MtpConfig mtp{.kind = MtpConfig::Kind::residual, .depths = 2, .own_output = true};
  for (const std::uint64_t seed : {1, 2}) {
    TestStream stream;
    RankModel model(stream, serial_options(config, mtp, {.rows = 1, .length = 4}, DType::f32, 1, false));
    model.parameters().initialize(stream, seed);
    const auto values = [&](const std::string& name) {
      const auto span = model.parameters().value(name).span<float>();
      return std::vector<float>(span.begin(), span.end());
    };
    const std::vector<float> matrix = values(output_matrix_name(config));
    CHECK(values("model.layers.2.head.weight") == matrix);
    CHECK(values("model.layers.3.head.weight") == matrix);
    CHECK(values("model.layers.2.fc1.weight") != values("model.layers.3.fc1.weight"));
  }
}

TEST_CASE("no two tensors of a model share a name for any kind of heads") {
  const NamedHeads heads = GENERATE(from_range(every_kind_of_heads(3)));
  std::vector<std::string> names;
  for (const ParameterUnit& unit : units_of(tiny_model(), heads.mtp, one_stage(tiny_model()), 0))
    for (const ParameterSpec& spec : unit.specs) names.push_back(spec.name);
  std::sort(names.begin(), names.end());
  CHECK(std::adjacent_find(names.begin(), names.end()) == names.end());
}

TEST_CASE("a frozen trunk has no gradients and no memory for them") {
  const NamedHeads heads = GENERATE(from_range(every_kind_of_heads(3)));
  CAPTURE(heads.name);
  TestStream stream;
  RankModelOptions options = serial_options(tiny_model(), heads.mtp, {.rows = 1, .length = 4}, DType::f64, 1);
  options.frozen_trunk = true;
  RankModel model(stream, options);
  const Parameters& parameters = model.parameters();
  std::int64_t of_heads = 0;
  for (const ParameterUnit& unit : parameters.units()) {
    if (unit.head) of_heads += unit.end - unit.begin;
    for (const ParameterSpec& spec : unit.specs) CHECK(parameters.gradient(spec.name).defined() == unit.head);
  }
  CHECK(parameters.gradients().elements() == of_heads);
}
