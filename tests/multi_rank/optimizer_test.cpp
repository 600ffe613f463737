#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "parallel/optimizer/state_digest.h"
#include "runtime/error.h"
#include "tests/multi_rank/toy_model.h"

using namespace foretoken;

namespace {

OptimizerConfig clipping(DType moments = DType::f32) {
  return {.weight_decay = 0.1, .clip_norm = 25, .moments = moments};
}

DType any_moments() {
  return GENERATE(DType::f32, DType::bf16);
}

std::string difference_from_serial(const ToyRank& toy, const SerialToy& serial) {
  for (const ParameterUnit& unit : toy.parameters.units())
    for (const ParameterSpec& spec : unit.specs) {
      const auto found = difference(toy.parameters.value(spec.name).span<float>(),
                                    serial.states.at(spec.name).value, spec.name);
      if (!found.empty()) return found;
    }
  return "";
}

Tensor expected_of(SerialToy& serial, const StatePiece& piece) {
  return serial.states.at(piece.spec->name).of(piece.kind).flat(piece.range.begin, piece.range.size());
}

}  // namespace

TEST_CASE("every layout computes bitwise the update of serial AdamW on the summed gradient",
          "[ranks1][ranks2][ranks3][ranks4]") {
  const bool clips = GENERATE(true, false);
  OptimizerConfig config = clipping(any_moments());
  if (!clips) config.clip_norm = 0;
  for (const Layout& layout : layouts_of(multi_rank::world().size())) {
    INFO(to_string(layout));
    ToyRank toy(layout, config);
    SerialToy serial(layout.grid, config);
    for (int step = 1; step <= 3; ++step) {
      const double norm = serial.train(step, 0.01);
      REQUIRE(norm > 25);  // large enough that clipping applies
      CHECK(toy.train(step, 0.01) == norm);
      CHECK(difference_from_serial(toy, serial) == "");
    }
    CHECK_NOTHROW(check_replicas(toy.stream, toy.parameters, toy.groups));
  }
}

TEST_CASE("the pieces to save hold every element of the model once", "[ranks1][ranks2][ranks3][ranks4]") {
  const OptimizerConfig config = clipping(any_moments());
  for (const Layout& layout : layouts_of(multi_rank::world().size())) {
    INFO(to_string(layout));
    ToyRank toy(layout, config);
    SerialToy serial(layout.grid, config);
    toy.train(1, 0.01);
    serial.train(1, 0.01);

    std::map<std::string, std::vector<std::int32_t>> times;  // key: kind and name
    for (const std::string kind : {"model", "exp_avg", "exp_avg_sq"})
      for (const auto& [name, state] : serial.states) times[kind + " " + name].resize(state.value.size());
    for (const StatePiece& piece : toy.optimizer.state().pieces_to_save()) {
      CHECK(difference(piece.data, expected_of(serial, piece), piece.spec->name) == "");
      auto& counts = times.at(piece.kind + " " + piece.spec->name);
      for (std::int64_t i = piece.range.begin; i < piece.range.end; ++i)
        ++counts.at(static_cast<std::size_t>(i));
    }
    for (auto& [tensor, counts] : times) {
      multi_rank::world().all_reduce(
          tensor_over(std::span(counts), {static_cast<std::int64_t>(counts.size())}));
      CHECK(std::count(counts.begin(), counts.end(), 1) == static_cast<std::ptrdiff_t>(counts.size()));
    }
  }
}

TEST_CASE("a run resumed from its pieces continues bitwise", "[ranks1][ranks2][ranks3][ranks4]") {
  const OptimizerConfig config = clipping(any_moments());
  for (const Layout& layout : layouts_of(multi_rank::world().size())) {
    INFO(to_string(layout));
    SerialToy serial(layout.grid, config);
    for (int step = 1; step <= 2; ++step) serial.train(step, 0.01);

    ToyRank toy(layout, config);
    for (const StatePiece& piece : toy.optimizer.state().pieces_to_load()) {
      const Tensor saved = expected_of(serial, piece);
      REQUIRE(piece.data.bytes() == saved.bytes());
      std::memcpy(piece.data.data, saved.data, saved.bytes());
    }
    CHECK(difference_from_serial(toy, serial) == "");
    CHECK(toy.train(3, 0.01) == serial.train(3, 0.01));
    CHECK(difference_from_serial(toy, serial) == "");
  }
}

TEST_CASE("a sharded optimizer stores only its part of the moments", "[ranks2][ranks4]") {
  const int dp = multi_rank::world().size();
  const DType dtype = any_moments();
  const auto moments = [&](bool sharded) {
    ToyRank toy({.grid = {.pp = 1, .dp = dp}, .sharded = sharded}, clipping(dtype));
    return toy.arena.use().total();
  };
  const std::int64_t elements = [] {
    Arena arena(DeviceKind::cpu);
    return Parameters(arena, {}, toy_units(1, 0), multi_rank::world().size()).values().elements();
  }();
  CHECK(moments(false) - moments(true) ==
        2 * size_of(dtype) * static_cast<std::size_t>(elements - elements / dp));
}

TEST_CASE("a gradient that is not finite changes no rank's state and is named",
          "[ranks1][ranks2][ranks3][ranks4]") {
  const float bad = GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity());
  for (const Layout& layout : layouts_of(multi_rank::world().size())) {
    INFO(to_string(layout));
    ToyRank toy(layout, clipping());
    const SerialToy untouched(layout.grid, clipping());
    toy.make_gradients(1);
    if (multi_rank::world().rank() == 0) toy.parameters.gradient("layers.0.weight").as<float>()[7] = bad;
    toy.reduce();
    toy.optimizer.step(toy.stream, 0.01, 12);
    CHECK_FALSE(std::isfinite(toy.optimizer.norm(toy.stream)));
    CHECK(difference_from_serial(toy, untouched) == "");
    CHECK(toy.optimizer.not_finite_state(toy.stream) == "");
    std::int32_t named = toy.optimizer.not_finite_gradient(toy.stream) == "layers.0.weight" ? 1 : 0;
    multi_rank::world().all_reduce(tensor_over(std::span(&named, 1), {1}));
    CHECK(named >= 1);
  }
}

TEST_CASE("a loss that is not finite on one rank changes no rank's state, even with finite gradients",
          "[ranks1][ranks2][ranks4]") {
  for (const Layout& layout : layouts_of(multi_rank::world().size())) {
    INFO(to_string(layout));
    const int last = multi_rank::world().size() - 1;
    ToyRank toy(layout, clipping());
    const SerialToy untouched(layout.grid, clipping());
    toy.make_gradients(1);
    toy.reduce();
    std::array losses{1.0, multi_rank::world().rank() == last ? std::nan("") : 2.0};
    toy.optimizer.measure(toy.stream, tensor_over<double>(losses, {2}));
    toy.optimizer.update(toy.stream, 0.01, 1);
    CHECK(std::isnan(toy.optimizer.norm(toy.stream)));
    CHECK(difference_from_serial(toy, untouched) == "");
  }
}

TEST_CASE("a changed bit of a weight or moment is named by the rank that owns it",
          "[ranks1][ranks2][ranks4]") {
  const DType dtype = any_moments();
  for (const Layout& layout : layouts_of(multi_rank::world().size())) {
    INFO(to_string(layout));
    ToyRank toy(layout, clipping(dtype));
    Arena arena(DeviceKind::cpu);
    StateDigest digest(arena, toy.optimizer.state(), toy.parameters);
    toy.train(1, 0.01);
    for (const StatePiece& piece : toy.optimizer.state().pieces_to_load()) {
      auto& byte = static_cast<unsigned char*>(piece.data.data)[piece.data.bytes() - 1];
      digest.compare(toy.stream);
      CHECK_FALSE(digest.compared());  // compare() does nothing before take()
      digest.take(toy.stream);
      digest.compare(toy.stream);
      CHECK(digest.changed(toy.stream) == "");
      byte ^= 0x10;
      digest.compare(toy.stream);  // compares with the state at take(), because close() was not called
      digest.close();
      byte ^= 0x20;  // stands for an update, which may change the state after close()
      digest.take(toy.stream);
      CHECK(digest.changed(toy.stream) == describe(piece));  // the result survives the next take()
      digest.compare(toy.stream);
      CHECK(digest.changed(toy.stream) == "");
      digest.close();
      byte ^= 0x30;
    }
  }
}

TEST_CASE("invalid optimizer settings are refused", "[ranks1]") {
  CHECK_NOTHROW(validate(OptimizerConfig{}));
  CHECK_THROWS_AS(validate(OptimizerConfig{.beta1 = 1}), UsageError);
  CHECK_THROWS_AS(validate(OptimizerConfig{.beta2 = -0.1}), UsageError);
  CHECK_THROWS_AS(validate(OptimizerConfig{.eps = 0}), UsageError);
  CHECK_THROWS_AS(validate(OptimizerConfig{.weight_decay = std::numeric_limits<double>::quiet_NaN()}),
                  UsageError);
  CHECK_THROWS_AS(validate(OptimizerConfig{.clip_norm = -1}), UsageError);
  CHECK_THROWS_AS(validate(OptimizerConfig{.moments = DType::f64}), UsageError);
}
