// Training throughput of the quickstart model on one CPU rank, and each operator's share of the time. The
// peer is torch_peer.py beside this; compare.sh runs both in turn.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <vector>

#include <CLI/CLI.hpp>

#include "model/cost.h"
#include "model/objective.h"
#include "model/rank_model.h"
#include "runtime/operators/adamw.h"
#include "runtime/operators/elementwise.h"
#include "runtime/operators/reductions.h"
#include "runtime/profile.h"
#include "runtime/random.h"

using namespace foretoken;

namespace {

struct Arguments {
  int threads = 1;
  int steps = 10;
  int microbatches = 4;
  std::int64_t rows = 4;
  std::int64_t length = 128;
  ModelConfig model;
  MtpConfig mtp{.depths = 2};
};

MicrobatchInput random_batch(Arena& arena, const Arguments& arguments, std::uint64_t seed) {
  const Shape shape{arguments.rows, arguments.length + 1 + arguments.mtp.depths};
  const MicrobatchInput input{.tokens = arena.tensor(DType::i32, shape),
                              .document_start = arena.tensor(DType::i32, shape)};
  const CounterRng rng(seed, "benchmark tokens");
  for (std::int64_t i = 0; i < shape.elements(); ++i)
    input.tokens.as<std::int32_t>()[i] = static_cast<std::int32_t>(
        rng.u64(static_cast<std::uint64_t>(i)) % static_cast<std::uint64_t>(arguments.model.vocab_size));
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("CPU training benchmark");
  app.add_option("--threads", arguments.threads);
  app.add_option("--steps", arguments.steps);
  app.add_option("--hidden", arguments.model.hidden_size);
  app.add_option("--layers", arguments.model.num_hidden_layers);
  app.add_option("--heads", arguments.model.num_attention_heads);
  app.add_option("--ffn", arguments.model.intermediate_size);
  app.add_option("--rows", arguments.rows);
  app.add_option("--length", arguments.length);
  CLI11_PARSE(app, argc, argv);
  arguments.model.num_key_value_heads = arguments.model.num_attention_heads;
  arguments.model.head_dim = arguments.model.hidden_size / arguments.model.num_attention_heads;

  ThreadPool threads(arguments.threads);
  Stream stream(threads);
  RankModelOptions options;
  options.model = arguments.model;
  options.mtp = arguments.mtp;
  options.layout.blocks_per_stage = {static_cast<int>(arguments.model.num_hidden_layers)};
  options.shape = {.rows = arguments.rows, .length = arguments.length};
  options.slots = {1};
  RankModel model(stream, options);
  model.parameters().initialize(1);

  Arena arena(DeviceKind::cpu);
  std::vector<MicrobatchInput> batch;
  for (int m = 0; m < arguments.microbatches; ++m)
    batch.push_back(random_batch(arena, arguments, static_cast<std::uint64_t>(m)));
  std::vector<std::int64_t> counts(static_cast<std::size_t>(arguments.mtp.depths) + 1);
  for (const MicrobatchInput& input : batch) add_target_counts(input, arguments.length, counts);
  const Objective objective(arguments.mtp);

  const Tensor values = model.parameters().values(), gradients = model.parameters().gradients();
  const Tensor exp_avg = arena.tensor(DType::f32, values.shape),
               exp_avg_sq = arena.tensor(DType::f32, values.shape);
  Profile profile;
  std::vector<double> seconds;
  for (int step = 1; step <= arguments.steps + 2; ++step) {
    if (step == 3) stream.set_profile(&profile);
    const auto start = std::chrono::steady_clock::now();
    set_zero(stream, gradients);
    model.begin_step({.microbatches = batch, .gradient_scales = objective.gradient_scales(counts)});
    for (int m = 0; m < arguments.microbatches; ++m) {
      model.forward(0, m, 0);
      model.backward(0, m, 0);
    }
    const double norm = std::sqrt(sum_of_squares(stream, gradients));
    adamw(stream, {.values = values,
                   .gradients = gradients,
                   .exp_avg = exp_avg,
                   .exp_avg_sq = exp_avg_sq,
                   .lr = 3e-4,
                   .weight_decay = 0.1,
                   .gradient_scale = std::min(1.0, 1.0 / (norm + 1e-6)),
                   .step = step});
    if (step > 2)
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  const double tokens = static_cast<double>(options.shape.tokens() * arguments.microbatches);
  const double flops = training_flops_per_token(arguments.model, arguments.mtp, arguments.length);
  fmt::print("foretoken, {} thread(s): {:.1f} ms a step, {:.0f} tokens/s, {:.1f} model GFLOP/s\n",
             arguments.threads, median * 1e3, tokens / median, flops * tokens / median / 1e9);

  std::vector<std::pair<double, std::string>> shares;
  double total = 0;
  for (const auto& [name, entry] : profile.entries()) {
    shares.emplace_back(entry.seconds, name);
    total += entry.seconds;
  }
  std::sort(shares.rbegin(), shares.rend());
  for (const auto& [spent, name] : shares)
    fmt::print("  {:<26} {:5.1f} %  {:7.2f} ms a step\n", name, 100 * spent / total,
               spent / arguments.steps * 1e3);
}
