#pragma once
// A model of a few small tensors, sharded over ranks, and the same model on one rank. Its gradients are
// synthetic: they are multiples of 1/16, so sums and norms are exact in any order and layouts can be compared
// bit by bit.

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/groups.h"
#include "parallel/optimizer/gradient_reducer.h"
#include "parallel/optimizer/optimizer.h"
#include "parallel/optimizer/shared_weights.h"
#include "runtime/device.h"
#include "runtime/operators/parameters/adamw.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/random.h"
#include "tests/support/multi_rank.h"

namespace foretoken {

struct Layout {
  Grid grid;
  bool sharded = false;
  std::int64_t bucket_bytes = 1 << 20;
};

inline std::string to_string(const Layout& layout) {
  return fmt::format("{}, {}, buckets of {} bytes", to_string(layout.grid),
                     layout.sharded ? "sharded" : "unsharded", layout.bucket_bytes);
}

/// All layouts of `ranks` ranks: every grid, with the sharded and the unsharded optimizer, with three bucket
/// sizes.
inline std::vector<Layout> layouts_of(int ranks) {
  std::vector<Layout> layouts;
  for (int pp = 1; pp <= ranks; ++pp) {
    if (ranks % pp != 0) continue;
    for (const bool sharded : {false, true})
      for (const std::int64_t bytes : {1, 400, 1 << 20})
        layouts.push_back({.grid = {.pp = pp, .dp = ranks / pp}, .sharded = sharded, .bucket_bytes = bytes});
  }
  return layouts;
}

inline constexpr int toy_layers = 6;

/// The pipeline ranks that hold the embedding: the first, the last and, with four or more ranks, one in
/// between.
inline std::vector<int> toy_holders(int pp) {
  return pp > 3 ? std::vector<int>{0, pp - 2, pp - 1} : std::vector<int>{0, pp - 1};
}

inline std::vector<std::vector<int>> toy_sharing(int pp) {
  return pp > 1 ? std::vector<std::vector<int>>{toy_holders(pp)} : std::vector<std::vector<int>>{};
}

/// The units of one pipeline rank. Their sizes are odd, so that units need padding.
inline std::vector<ParameterUnit> toy_units(int pp, int pp_rank) {
  const auto embedding = [&](bool canonical) {
    return ParameterUnit{.name = "embedding",
                         .holders = pp > 1 ? toy_holders(pp) : std::vector<int>{},
                         .canonical = canonical,
                         .specs = {{.name = "embed", .shape = {7, 5}}, {.name = "scale", .shape = {3}}}};
  };
  std::vector<ParameterUnit> units;
  if (pp_rank == 0) units.push_back(embedding(true));
  for (int k = 0; k < toy_layers; ++k)
    if (k * pp / toy_layers == pp_rank)
      units.push_back(
          {.name = fmt::format("layer {}", k),
           .specs = {
               {.name = fmt::format("layers.{}.norm", k), .shape = {5}, .decay = false, .init = Init::ones},
               {.name = fmt::format("layers.{}.weight", k), .shape = {5, 11}}}});
  const std::vector<int> holders = toy_holders(pp);
  if (pp_rank > 0 && std::find(holders.begin(), holders.end(), pp_rank) != holders.end())
    units.push_back(embedding(false));
  if (pp_rank == pp - 1) {
    units.push_back({.name = "head",
                     .specs = {{.name = "norm", .shape = {5}, .decay = false, .init = Init::ones},
                               {.name = "head", .shape = {7, 5}}}});
  }
  return units;
}

/// An element of the gradient on one data-parallel rank. `side` is the number of the replica of a shared
/// unit; 0 is the canonical replica.
inline float toy_gradient(const std::string& name, int dp_rank, int side, int step, std::int64_t element) {
  const CounterRng rng(static_cast<std::uint64_t>(step),
                       fmt::format("{} of dp{} side {}", name, dp_rank, side));
  return (static_cast<float>(rng.u64(static_cast<std::uint64_t>(element)) % 257) - 128) / 16;
}

/// One rank of the sharded model.
struct ToyRank {
  ToyRank(const Layout& layout, const OptimizerConfig& config, const Device::Options& options = {})
      : device(options),
        groups(make_groups(multi_rank::world(), layout.grid, stream, toy_sharing(layout.grid.pp))),
        parameters(arena, {}, toy_units(layout.grid.pp, groups.pp_rank), layout.grid.dp),
        plan(plan_shards(parameters, {.bucket_bytes = layout.bucket_bytes,
                                      .dp = layout.grid.dp,
                                      .dp_rank = groups.dp_rank,
                                      .sharded = layout.sharded})),
        reducer(parameters, plan, *groups.dp),
        shared(parameters, plan, reducer, groups),
        optimizer(arena, parameters, plan, config, *groups.dp, *groups.device_world) {
    parameters.initialize(stream, 5);
    arena.seal();
  }

  void make_gradients(int step) {
    for (const ParameterUnit& unit : parameters.units())
      for (const ParameterSpec& spec : unit.specs) {
        std::vector<float> gradient(static_cast<std::size_t>(spec.shape.elements()));
        for (std::size_t i = 0; i < gradient.size(); ++i)
          gradient[i] =
              toy_gradient(spec.name, groups.dp_rank, side_of(unit), step, static_cast<std::int64_t>(i));
        copy(stream, tensor_over(std::span(gradient), spec.shape),
             Parameters::view(parameters.gradients(), spec));
      }
  }

  int side_of(const ParameterUnit& unit) const {
    const auto own = std::find(unit.holders.begin(), unit.holders.end(), groups.pp_rank);
    return static_cast<int>(own - unit.holders.begin());
  }

  /// Reduces the gradients. Units become final from the last to the first, as in backward.
  void reduce() {
    shared.progress();
    for (int unit = static_cast<int>(parameters.units().size()) - 1; unit >= 0; --unit) {
      reducer.unit_ready(unit);
      reducer.progress();
      shared.progress();
    }
    reducer.finish();
    shared.finish();
  }

  double train(int step, double lr) {
    make_gradients(step);
    reduce();
    optimizer.step(stream, lr, step);
    groups.transport->synchronize();
    return optimizer.norm(stream);
  }

  Device device;
  Stream& stream = device.stream();
  Arena arena{stream.device()};
  Groups groups;
  Parameters parameters;
  ShardPlan plan;
  GradientReducer reducer;
  SharedWeights shared;
  Optimizer optimizer;
};

/// The whole model, on every rank.
struct SerialToy {
  struct State {
    ParameterSpec spec;
    int sides = 1;
    std::vector<float> value, gradient;
    Tensor exp_avg, exp_avg_sq;

    Tensor of(const std::string& kind) {
      if (kind == "model") return tensor_over(std::span(value), {static_cast<std::int64_t>(value.size())});
      return kind == "exp_avg" ? exp_avg : exp_avg_sq;
    }
  };

  SerialToy(const Grid& layout, const OptimizerConfig& settings)
      : grid(layout), config(settings), parameters(arena, {}, toy_units(1, 0), 1) {
    parameters.initialize(stream, 5);
    for (const ParameterUnit& unit : parameters.units())
      for (const ParameterSpec& spec : unit.specs) {
        const auto value = parameters.value(spec.name).span<float>();
        State& state = states[spec.name];
        state.spec = spec;
        state.sides =
            unit.name == "embedding" && grid.pp > 1 ? static_cast<int>(toy_holders(grid.pp).size()) : 1;
        state.value.assign(value.begin(), value.end());
        state.gradient.resize(value.size());
        state.exp_avg = arena.tensor(config.moments, {spec.shape.elements()});
        state.exp_avg_sq = arena.tensor(config.moments, {spec.shape.elements()});
      }
  }

  /// Sums the gradients of all ranks; returns their norm.
  double sum_gradients(int step) {
    double squares = 0;
    for (auto& [name, state] : states)
      for (std::size_t i = 0; i < state.gradient.size(); ++i) {
        state.gradient[i] = 0;
        for (int side = 0; side < state.sides; ++side)
          for (int d = 0; d < grid.dp; ++d)
            state.gradient[i] += toy_gradient(name, d, side, step, static_cast<std::int64_t>(i));
        squares += static_cast<double>(state.gradient[i]) * static_cast<double>(state.gradient[i]);
      }
    return std::sqrt(squares);
  }

  double train(int step, double lr) {
    const double norm = sum_gradients(step);
    double scale = config.clip_norm > 0 ? std::min(1.0, config.clip_norm / (norm + 1e-6)) : 1;
    for (auto& [name, state] : states) {
      adamw(stream, {.values = state.of("model"),
                     .gradients = tensor_over(std::span(state.gradient), {state.spec.shape.elements()}),
                     .exp_avg = state.exp_avg,
                     .exp_avg_sq = state.exp_avg_sq,
                     .gradient_scale = tensor_over(std::span(&scale, 1), {1}),
                     .lr = lr,
                     .beta1 = config.beta1,
                     .beta2 = config.beta2,
                     .eps = config.eps,
                     .weight_decay = state.spec.decay ? config.weight_decay : 0,
                     .step = step});
    }
    return norm;
  }

  ThreadPool threads{1};
  Stream stream{threads};
  Arena arena{DeviceKind::cpu};
  Grid grid;
  OptimizerConfig config;
  Parameters parameters;
  std::map<std::string, State> states;
};

/// Empty if all elements have the same bits; otherwise describes the first mismatch.
inline std::string difference(std::span<const float> is, std::span<const float> expected,
                              const std::string& what) {
  if (is.size() != expected.size())
    return fmt::format("{}: {} elements, {} expected", what, is.size(), expected.size());
  for (std::size_t i = 0; i < is.size(); ++i)
    if (!(is[i] == expected[i])) return fmt::format("{}[{}] is {}, {} expected", what, i, is[i], expected[i]);
  return "";
}
inline std::string difference(const Tensor& is, const Tensor& expected, const std::string& what) {
  if (is.dtype != expected.dtype)
    return fmt::format("{}: {}, {} expected", what, name_of(is.dtype), name_of(expected.dtype));
  if (is.dtype == DType::f32) return difference(is.span<float>(), expected.span<float>(), what);
  const auto floats = [](std::span<const BFloat16> of) {
    std::vector<float> values;
    for (const BFloat16& x : of) values.push_back(static_cast<float>(x));
    return values;
  };
  return difference(floats(is.span<BFloat16>()), floats(expected.span<BFloat16>()), what);
}

}  // namespace foretoken
