// Measures the training throughput of one rank on random tokens, and each operator's share of the time. The
// defaults are the quickstart's model; compare_gpu.sh sets the model of the GPU figures. torch_peer.py does
// the same work in PyTorch; the scripts run both in turn.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "model/config_names.h"
#include "model/cost.h"
#include "model/heads/head_facts.h"
#include "model/objective.h"
#include "model/stage/rank_model.h"
#include "runtime/device.h"
#include "runtime/error.h"
#include "runtime/median.h"
#include "runtime/operators/parameters/adamw.h"
#include "runtime/operators/parameters/random_normal.h"
#include "runtime/operators/parameters/reductions.h"
#include "runtime/operators/products/linear.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/random.h"
#include "runtime/timing/profile.h"
#include "tests/benchmarks/choices.h"

using namespace foretoken;

namespace {

using Clock = std::chrono::steady_clock;

struct Arguments {
  Device::Options device;
  int warmup = 2;
  int steps = 10;
  int microbatches = 4;
  std::int64_t rows = 4;
  std::int64_t length = 128;
  Recompute recompute = Recompute::none;
  DType moments = DType::f32;
  std::optional<Fp8Recipe> fp8;
  ModelConfig model;
  MtpConfig mtp{.depths = 2};
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Training benchmark");
  const std::map<std::string, DeviceKind> devices{{"cpu", DeviceKind::cpu}, {"cuda", DeviceKind::cuda}};
  const auto recomputes = choices<Recompute>();
  const auto kinds = choices<MtpConfig::Kind>();
  const auto recipes = choices<Fp8Recipe>();
  const std::map<std::string, DType> dtypes{{"f32", DType::f32}, {"bf16", DType::bf16}};
  app.add_option("--device", arguments.device.kind)->transform(CLI::CheckedTransformer(devices));
  app.add_flag("--deterministic", arguments.device.deterministic);
  app.add_option("--threads", arguments.device.threads);
  app.add_option("--warmup", arguments.warmup);
  app.add_option("--steps", arguments.steps);
  app.add_option("--microbatches", arguments.microbatches);
  app.add_option("--rows", arguments.rows);
  app.add_option("--length", arguments.length);
  app.add_option("--recompute", arguments.recompute)->transform(CLI::CheckedTransformer(recomputes));
  app.add_option("--fp8", arguments.fp8)->transform(CLI::CheckedTransformer(recipes));
  app.add_option("--moments", arguments.moments)->transform(CLI::CheckedTransformer(dtypes));
  app.add_option("--hidden", arguments.model.hidden_size);
  app.add_option("--layers", arguments.model.num_hidden_layers);
  app.add_option("--heads", arguments.model.num_attention_heads);
  app.add_option("--ffn", arguments.model.intermediate_size);
  app.add_option("--vocab", arguments.model.vocab_size);
  app.add_option("--depths", arguments.mtp.depths);
  app.add_option("--kind", arguments.mtp.kind)->transform(CLI::CheckedTransformer(kinds));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  arguments.model.num_key_value_heads = arguments.model.num_attention_heads;
  arguments.model.head_dim = arguments.model.hidden_size / arguments.model.num_attention_heads;
  return arguments;
}

RankModelOptions options_of(const Arguments& arguments) {
  RankModelOptions options;
  options.model = arguments.model;
  options.mtp = arguments.mtp;
  options.layout = one_stage(arguments.model);
  options.shape = {.rows = arguments.rows, .length = arguments.length};
  options.activations = arguments.device.kind == DeviceKind::cuda ? DType::bf16 : DType::f32;
  if (arguments.fp8) options.fp8 = Fp8Config{.recipe = *arguments.fp8};
  options.recompute = arguments.recompute;
  options.microbatches = arguments.microbatches;
  options.slots = {1};
  options.attention_across_documents = true;
  return options;
}

/// A model with its optimizer and its data.
class Trainer {
 public:
  Trainer(Stream& stream, const Arguments& arguments)
      : stream_(stream),
        model_(stream, options_of(arguments)),
        arena_(stream.device()),
        counts_(static_cast<std::size_t>(arguments.mtp.depths) + 1),
        objective_(arguments.mtp) {
    model_.parameters().initialize(stream, 1);
    const Shape shape{arguments.rows, arguments.length + 1 + arguments.mtp.depths};
    const CounterRng rng(1, "benchmark tokens");
    std::uint64_t drawn = 0;
    for (int m = 0; m < arguments.microbatches; ++m) {
      const MicrobatchInput input{host_.tensor(DType::i32, shape), host_.tensor(DType::i32, shape)};
      for (std::int32_t& token : input.tokens.span<std::int32_t>())
        token = static_cast<std::int32_t>(rng.u64(drawn++) %
                                          static_cast<std::uint64_t>(arguments.model.vocab_size));
      add_target_counts(input, arguments.length, counts_);
      batch_.push_back(input);
    }
    const Shape elements = model_.parameters().values().shape;
    exp_avg_ = arena_.tensor(arguments.moments, elements);
    exp_avg_sq_ = arena_.tensor(arguments.moments, elements);
    sum_ = arena_.tensor(DType::f64, {1});
    scale_ = arena_.tensor(DType::f64, {1});
  }

  /// Runs one step and returns the value of the objective.
  double step() {
    const Parameters& parameters = model_.parameters();
    model_.begin_step({.request = StepRequest::training(),
                       .microbatches = batch_,
                       .gradient_scales = objective_.gradient_scales(counts_)});
    for (int m = 0; m < static_cast<int>(batch_.size()); ++m) {
      model_.forward({.microbatch = m});
      model_.backward({.microbatch = m});
    }
    set_zero(stream_, sum_);
    sum_of_squares(stream_, {parameters.gradients(), sum_});
    clip_scale(stream_, {.sum = sum_, .limit = 1, .scale = scale_});
    adamw(stream_, {.values = parameters.values(),
                    .gradients = parameters.gradients(),
                    .exp_avg = exp_avg_,
                    .exp_avg_sq = exp_avg_sq_,
                    .weights = parameters.has_rounded_weights() ? parameters.weights() : Tensor{},
                    .gradient_scale = scale_,
                    .lr = 3e-4,
                    .weight_decay = 0.1,
                    .step = ++step_});
    std::vector<double> losses(counts_.size());
    copy(stream_, model_.sums().losses, tensor_over(std::span(losses), model_.sums().losses.shape));
    stream_.synchronize();
    return objective_.losses(losses, counts_).total;
  }

 private:
  Stream& stream_;
  RankModel model_;
  Arena arena_, host_{DeviceKind::cpu};
  std::vector<MicrobatchInput> batch_;
  std::vector<std::int64_t> counts_;
  Objective objective_;
  Tensor exp_avg_, exp_avg_sq_, sum_, scale_;
  std::int64_t step_ = 0;
};

/// FLOP/s of one large matrix product: the practical limit of the device.
double product_ceiling(Stream& stream, DType dtype, std::int64_t n) {
  Arena arena(stream.device());
  const Tensor wide = arena.tensor(DType::f32, {n, n}), x = arena.tensor(dtype, {n, n}),
               w = arena.tensor(dtype, {n, n}), out = arena.tensor(dtype, {n, n});
  for (const Tensor& operand : {x, w}) {
    random_normal(stream, {.out = wide, .rng = {1, "operand"}});
    convert(stream, wide, operand);
  }
  std::vector<double> seconds;
  for (int i = 0; i < 7; ++i) {
    constexpr int products = 10;
    stream.synchronize();
    const auto start = Clock::now();
    for (int j = 0; j < products; ++j) linear_forward(stream, {.x = x, .weight = w, .out = out});
    stream.synchronize();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count() / products);
  }
  const auto size = static_cast<double>(n);
  return 2 * size * size * size / median(std::move(seconds));
}

void print_shares(Profile& profile, int steps, double step_seconds) {
  std::vector<std::pair<double, std::string>> shares;
  double total = 0;
  for (const auto& [name, entry] : profile.entries()) {
    shares.emplace_back(entry.seconds / steps, name);
    total += entry.seconds / steps;
  }
  std::sort(shares.rbegin(), shares.rend());
  for (const auto& [seconds, name] : shares)
    fmt::print("  {:<26} {:5.1f} %  {:8.2f} ms a step\n", name, 100 * seconds / total, seconds * 1e3);
  fmt::print("  {:<26}          {:8.2f} ms of {:.2f}\n", "all operators", total * 1e3, step_seconds * 1e3);
}

}  // namespace

int main(int argc, char** argv) try {
  const Arguments arguments = parse(argc, argv);
  Device device(arguments.device);
  const bool gpu = arguments.device.kind == DeviceKind::cuda;
  const double ceiling = gpu ? product_ceiling(device.stream(), DType::bf16, 8192) : 0;
  Trainer trainer(device.stream(), arguments);

  std::vector<double> seconds;
  double loss = 0;
  for (int step = 0; step < arguments.warmup + arguments.steps; ++step) {
    const auto start = Clock::now();
    loss = trainer.step();
    if (step >= arguments.warmup)
      seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  const double typical = median(seconds);
  const double tokens = static_cast<double>(arguments.rows * arguments.length * arguments.microbatches);
  const double flops =
      training_flops_per_token(arguments.model, arguments.mtp, arguments.length) * tokens / typical;
  fmt::print("foretoken on {}: {:.1f} ms a step, {:.0f} tokens/s, {:.1f} model GFLOP/s, loss {:.4f}",
             gpu ? device.name() : fmt::format("{} thread(s)", arguments.device.threads), typical * 1e3,
             tokens / typical, flops / 1e9, loss);
  if (gpu)
    fmt::print(
        "\n  {:.1f} model TFLOP/s, {:.1f} % of {:.0f} TFLOP/s (8192³ product); memory in use {:.2f} GiB, "
        "moments in {}",
        flops / 1e12, 100 * flops / ceiling, ceiling / 1e12,
        static_cast<double>(device.memory_in_use()) / (1 << 30), name_of(arguments.moments));
  fmt::print("\n");

  Profile profile;
  device.stream().set_profile(&profile);
  constexpr int profiled = 3;
  for (int step = 0; step < profiled; ++step) trainer.step();
  print_shares(profile, profiled, typical);
} catch (const std::exception& error) {
  fmt::print(stderr, "benchmark: {}\n", error.what());
  return 1;
}
