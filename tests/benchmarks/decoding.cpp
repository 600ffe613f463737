// Times decoding steps with random weights: the trunk and the heads computing new rows after a prompt, the
// choice of tokens, and the matrix products by themselves. Also prints the bytes that each of them must read,
// as a rate and as a share of the bandwidth of a large copy.

#include <algorithm>
#include <chrono>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "model/decoder/decoder.h"
#include "model/heads/head_facts.h"
#include "runtime/device.h"
#include "runtime/median.h"
#include "runtime/operators/products/linear.h"
#include "runtime/operators/products/linear_swiglu.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/random.h"
#include "runtime/replays.h"
#include "runtime/timing/profile.h"
#include "tests/benchmarks/choices.h"

using namespace foretoken;

namespace {

using Clock = std::chrono::steady_clock;

struct Arguments {
  Device::Options device;
  DType dtype = DType::bf16;
  ModelConfig model;
  MtpConfig mtp{.depths = 1};
  std::int64_t batch = 1;
  std::int64_t prompt = 512;
  std::vector<std::int64_t> rows{1, 2, 3, 4, 5, 6, 8, 12, 16, 32, 64};
  int steps = 30;
  bool products = false;
  bool shares = false;
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Decoding benchmark");
  const std::map<std::string, DeviceKind> devices{{"cpu", DeviceKind::cpu}, {"cuda", DeviceKind::cuda}};
  const std::map<std::string, DType> dtypes{{"f32", DType::f32}, {"bf16", DType::bf16}};
  const auto kinds = choices<MtpConfig::Kind>();
  ModelConfig& model = arguments.model;
  model.num_key_value_heads = 0;
  app.add_option("--device", arguments.device.kind)->transform(CLI::CheckedTransformer(devices));
  app.add_option("--threads", arguments.device.threads);
  app.add_option("--dtype", arguments.dtype, "bf16 on a GPU, f32 on the CPU")
      ->transform(CLI::CheckedTransformer(dtypes));
  app.add_option("--hidden", model.hidden_size);
  app.add_option("--layers", model.num_hidden_layers);
  app.add_option("--heads", model.num_attention_heads);
  app.add_option("--kv-heads", model.num_key_value_heads, "as many as heads unless given");
  app.add_option("--ffn", model.intermediate_size);
  app.add_option("--vocab", model.vocab_size);
  app.add_option("--depths", arguments.mtp.depths);
  app.add_option("--kind", arguments.mtp.kind)->transform(CLI::CheckedTransformer(kinds));
  app.add_option("--batch", arguments.batch, "sequences");
  app.add_option("--prompt", arguments.prompt, "tokens before the new rows");
  app.add_option("--rows", arguments.rows, "new rows of each sequence")->delimiter(',');
  app.add_option("--steps", arguments.steps);
  app.add_flag("--products", arguments.products, "time the products alone too");
  app.add_flag("--shares", arguments.shares, "print each operator's share, kernels launched one by one");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
  if (model.num_key_value_heads == 0) model.num_key_value_heads = model.num_attention_heads;
  model.head_dim = model.hidden_size / model.num_attention_heads;
  if (arguments.device.kind == DeviceKind::cpu) arguments.dtype = DType::f32;
  return arguments;
}

/// Median seconds of a call, including the wait for its result.
template <class Call>
double seconds(Stream& stream, int steps, const Call& call) {
  std::vector<double> spent;
  for (int i = 0; i < steps + 3; ++i) {
    stream.synchronize();
    const auto start = Clock::now();
    call();
    stream.synchronize();
    if (i >= 3) spent.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  return median(std::move(spent));
}

/// Bytes per second that a large copy reads and writes.
double copy_ceiling(Stream& stream) {
  Arena arena(stream.device());
  const std::int64_t count = std::int64_t{1} << (stream.device() == DeviceKind::cuda ? 28 : 25);
  const Tensor from = arena.tensor(DType::f32, {count}), to = arena.tensor(DType::f32, {count});
  return 2.0 * static_cast<double>(from.bytes()) / seconds(stream, 10, [&] { copy(stream, from, to); });
}

class Bench {
 public:
  Bench(Stream& stream, const Arguments& arguments)
      : stream_(stream), arguments_(arguments), ceiling_(copy_ceiling(stream)), decoder_(stream, options()) {
    decoder_.parameters().initialize(stream, 1);
    for (int level = 0; level < decoder_.levels(); ++level)
      decoder_.forward(level, rows(0, arguments.prompt));
    decoder_.start();
    stream.synchronize();
  }

  void steps() {
    fmt::print(
        "a large copy: {:.0f} GB/s. One step of `rows` new rows of each of {} sequence(s) after {} tokens;\n"
        "ms of the level's pass alone, with the likeliest tokens, with logits; floor: ms to read the bytes\n",
        ceiling_ / 1e9, arguments_.batch, arguments_.prompt);
    fmt::print("  {:>5} {:>5} {:>8} {:>8} {:>8} {:>8} {:>7} {:>8} {:>10}\n", "level", "rows", "pass",
               "argmax", "logits", "floor", "share", "GB/s", "tokens/s");
    for (int level = 0; level < std::min(decoder_.levels(), 2); ++level)
      for (const std::int64_t count : arguments_.rows) print_step(level, count);
  }

  void shares(std::int64_t count) {
    Profile profile;
    stream_.set_profile(&profile);
    for (int i = 0; i < arguments_.steps; ++i) step(0, count);
    stream_.synchronize();
    stream_.set_profile(nullptr);
    fmt::print("\nmicroseconds of {} row(s), operators launched one by one\n", count);
    for (const auto& [name, entry] : profile.entries())
      fmt::print("  {:<24} {:>5} calls of {:>8.2f}\n", name, entry.calls / arguments_.steps,
                 1e6 * entry.seconds / static_cast<double>(entry.calls));
  }

 private:
  DecoderOptions options() const {
    const std::int64_t most = *std::max_element(arguments_.rows.begin(), arguments_.rows.end());
    return {.model = arguments_.model,
            .mtp = arguments_.mtp,
            .dtype = arguments_.dtype,
            .sequences = arguments_.batch,
            .positions = arguments_.prompt + most + 1,
            .logits = arguments_.batch * most};
  }
  std::vector<DecoderRow> rows(std::int64_t begin, std::int64_t end) const {
    const CounterRng rng(1, "benchmark tokens");
    const auto vocabulary = static_cast<std::uint64_t>(arguments_.model.vocab_size);
    std::vector<DecoderRow> rows;
    for (std::int32_t s = 0; s < arguments_.batch; ++s)
      for (std::int64_t t = begin; t < end; ++t)
        rows.push_back(
            {.sequence = s,
             .position = static_cast<std::int32_t>(t),
             .token = static_cast<std::int32_t>(rng.u64(static_cast<std::uint64_t>(t)) % vocabulary)});
    return rows;
  }
  void step(int level, std::int64_t count) {
    decoder_.forward(level, rows(arguments_.prompt, arguments_.prompt + count));
    decoder_.start();
  }
  /// Bytes that a step of a level must read: the weights of its blocks and the cache.
  double bytes(int level) const {
    const ModelConfig& m = arguments_.model;
    const std::int64_t kv = 2 * m.num_key_value_heads * m.head_dim, c = m.hidden_size;
    const std::int64_t block =
        c * (m.num_attention_heads * m.head_dim * 2 + kv) + 3 * c * m.intermediate_size;
    const std::int64_t cache = arguments_.batch * arguments_.prompt * kv;
    const bool sequential = arguments_.mtp.kind == MtpConfig::Kind::sequential;
    const bool attends = level == 0 || head_facts(arguments_.mtp.kind).has_block;
    const std::int64_t blocks = level == 0 ? m.num_hidden_layers : attends ? 1 : 0;
    const std::int64_t joint = level > 0 && sequential ? 2 * c * c : 0;
    return static_cast<double>((blocks * (block + cache) + joint) *
                               static_cast<std::int64_t>(size_of(arguments_.dtype)));
  }
  void print_step(int level, std::int64_t count) {
    std::vector<CacheSlot> slots;
    for (const DecoderRow& row : rows(arguments_.prompt, arguments_.prompt + count))
      slots.push_back({row.sequence, row.position});
    const double pass = seconds(stream_, arguments_.steps, [&] { step(level, count); });
    const double chosen = seconds(stream_, arguments_.steps, [&] {
      step(level, count);
      decoder_.choose(level, slots);
      decoder_.tokens();
    });
    const double sampled = seconds(stream_, arguments_.steps, [&] {
      step(level, count);
      decoder_.logits(level, slots);
    });
    const double read = bytes(level);
    fmt::print("  {:>5} {:>5} {:>8.3f} {:>8.3f} {:>8.3f} {:>8.3f} {:>5.1f} % {:>8.0f} {:>10.0f}\n", level,
               count, 1e3 * pass, 1e3 * chosen, 1e3 * sampled, 1e3 * read / ceiling_,
               100 * read / ceiling_ / pass, read / pass / 1e9,
               static_cast<double>(arguments_.batch * count) / chosen);
  }

  Stream& stream_;
  const Arguments& arguments_;
  double ceiling_;
  Decoder decoder_;
};

/// Times each product of a block and of the output matrix. It cycles through copies of the weights that
/// together do not fit any cache.
void products(Stream& stream, const Arguments& arguments) {
  const ModelConfig& m = arguments.model;
  const std::int64_t c = m.hidden_size, f = m.intermediate_size, a = m.num_attention_heads * m.head_dim,
                     kv = 2 * m.num_key_value_heads * m.head_dim;
  struct Product {
    const char* name;
    std::int64_t i, o;
    bool gated = false;
  };
  fmt::print("\nproducts alone: microseconds (GB/s of weights) by rows\n  {:<8}", "");
  for (const std::int64_t n : arguments.rows) fmt::print(" {:>15}", n);
  for (const Product& product :
       {Product{"qkv", c, a + kv}, Product{"o", a, c}, Product{"gate_up", c, 2 * f, true},
        Product{"down", f, c}, Product{"output", c, m.vocab_size}}) {
    fmt::print("\n  {:<8}", product.name);
    const auto [name, i, o, gated] = product;
    Arena arena(stream.device());
    const std::int64_t bytes = i * o * static_cast<std::int64_t>(size_of(arguments.dtype));
    const std::int64_t copies = std::clamp<std::int64_t>((std::int64_t{512} << 20) / bytes, 2, 64);
    const std::int64_t most = *std::max_element(arguments.rows.begin(), arguments.rows.end());
    const Tensor weights = arena.tensor(arguments.dtype, {copies, o, i}),
                 x = arena.tensor(arguments.dtype, {most, i}),
                 half = arena.tensor(arguments.dtype, {most, o / 2}),
                 out = arena.tensor(i == c && o == m.vocab_size ? DType::f32 : arguments.dtype, {most, o});
    fill(stream, x, 1);
    Replays replays(stream);
    for (const std::int64_t n : arguments.rows) {
      const auto all = [&, i = i, o = o, gated = gated] {
        for (std::int64_t copy = 0; copy < copies; ++copy) {
          const Tensor weight = weights.rows(copy, 1).view({o, i});
          if (gated)
            linear_swiglu_forward(
                stream,
                {.x = x.rows(0, n), .weight = weight, .gate_up = out.rows(0, n), .gated = half.rows(0, n)});
          else
            linear_forward(stream, {.x = x.rows(0, n), .weight = weight, .out = out.rows(0, n)});
        }
      };
      const double each = seconds(stream, 10, [&] { replays.run({n}, all); }) / static_cast<double>(copies);
      fmt::print(" {:>7.1f} ({:>5.0f})", 1e6 * each, static_cast<double>(bytes) / each / 1e9);
    }
  }
  fmt::print("\n");
}

}  // namespace

int main(int argc, char** argv) try {
  const Arguments arguments = parse(argc, argv);
  Device device(arguments.device);
  fmt::print("foretoken on {}: {} layers of {}, {} + {} heads, ffn {}, vocabulary {}, in {}\n", device.name(),
             arguments.model.num_hidden_layers, arguments.model.hidden_size,
             arguments.model.num_attention_heads, arguments.model.num_key_value_heads,
             arguments.model.intermediate_size, arguments.model.vocab_size, name_of(arguments.dtype));
  {
    Bench bench(device.stream(), arguments);
    bench.steps();
    if (arguments.shares) bench.shares(arguments.rows.front());
  }
  if (arguments.products) products(device.stream(), arguments);
} catch (const std::exception& error) {
  fmt::print(stderr, "benchmark: {}\n", error.what());
  return 1;
}
