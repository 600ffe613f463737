// Two optimizations of a decoding step on a GPU must not change a bit: CUDA graphs, and the choice of tokens
// on the device. The operators are tested in decoding_operators_test.cpp.

#include <algorithm>
#include <cmath>
#include <limits>

#include "model/generation/generator.h"
#include "runtime/cuda/context.h"
#include "runtime/operators/products/linear.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/operators/rowwise/rms_norm.h"
#include "runtime/operators/vocabulary/argmax.h"
#include "runtime/replays.h"
#include "runtime/timing/profile.h"
#include "tests/gpu/twin.h"
#include "tests/support/catch.h"
#include "tests/support/models/tiny_model.h"

using namespace foretoken;
using namespace foretoken::testing;

TEST_CASE("argmax on a GPU is the CPU's") {
  TwinBench bench(DType::f32);
  const std::int64_t v = GENERATE(1, 5, 257, 1000, 32768);
  const Twin x = bench.normal("x", {7, v});
  constexpr float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  float* cpu = x.cpu.as<float>();
  for (std::int64_t i = 0; i < v; ++i) {
    cpu[i] = std::round(cpu[i]);          // row 0 has several equal maxima
    cpu[v + i] = static_cast<float>(-7);  // in row 1 all values are equal
  }
  cpu[3 * v - 1] = nan;
  cpu[3 * v + v / 2] = inf;
  std::fill_n(cpu + 4 * v, v, -inf);
  bench.upload(x);
  for (const std::int64_t count : {v, (v + 1) / 2}) {
    const Twin out = bench.zeros({7, std::min<std::int64_t>(count, 5)}, DType::i32);
    argmax(bench.cpu(), {.x = x.cpu, .count = count, .out = out.cpu});
    argmax(bench.gpu(), {.x = x.gpu, .count = count, .out = out.gpu});
    const Tensor found = bench.download(out);
    CAPTURE(v, count);
    CHECK(std::vector(found.span<std::int32_t>().begin(), found.span<std::int32_t>().end()) ==
          std::vector(out.cpu.span<std::int32_t>().begin(), out.cpu.span<std::int32_t>().end()));
  }
}

TEST_CASE("a replayed sequence of operators computes from the current values of its tensors") {
  TwinBench bench(GENERATE(DType::f32, DType::bf16));
  Stream& stream = bench.gpu();
  const std::int64_t n = GENERATE(3, 100);
  const Twin x = bench.normal("x", {n, 64}), w = bench.normal("w", {64, 64}, 0.2),
             norm = bench.normal("norm", {64}, 1), out = bench.poisoned({n, 64}),
             normed = bench.poisoned({n, 64}), rstd = bench.poisoned({n}, bench.statistics());
  const auto operators = [&](auto on) {
    Stream& where = on == &Twin::cpu ? bench.cpu() : stream;
    rms_norm_forward(where, {.x = x.*on, .weight = norm.*on, .out = {normed.*on}, .rstd = rstd.*on});
    linear_forward(where, {.x = normed.*on, .weight = w.*on, .residual = x.*on, .out = out.*on});
  };
  Replays replays(stream);
  for (int run = 0; run < 4; ++run) {
    CAPTURE(run, n);
    fill_normal(x.cpu, "x" + std::to_string(run));
    bench.upload(x);
    bench.copy_to_cpu(x);  // the CPU reads the values that the GPU has, rounded to the dtype
    if (run == 3)
      stream.cuda().workspace(std::size_t{1} << (20 + run));  // reallocates: captured graphs are invalid
    replays.run({n}, [&] { operators(&Twin::gpu); });
    operators(&Twin::cpu);
    CHECK(bench.difference(normed, {.relative = stored(bench.dtype()) + sum_roundoff(64)}) == "");
    bench.copy_to_cpu(normed);
    linear_forward(bench.cpu(), {.x = normed.cpu, .weight = w.cpu, .residual = x.cpu, .out = out.cpu});
    CHECK(bench.difference(out, {.relative = stored(bench.dtype()),
                                 .terms = {{sum_roundoff(65), bench.absolute_products(normed.cpu, w.cpu)},
                                           {sum_roundoff(65), bench.absolutes(x.cpu)}}}) == "");
  }
}

TEST_CASE("a sequence that fails while it is recorded leaves the stream in order") {
  TwinBench bench(DType::f32);
  Stream& stream = bench.gpu();
  const Twin x = bench.normal("x", {5});
  Replays replays(stream);
  replays.run({1}, [&] { add(stream, x.gpu, x.gpu); });
  CHECK_THROWS_AS(replays.run({1}, [&] { throw DefectError("on purpose"); }), DefectError);
  replays.run({1}, [&] { add(stream, x.gpu, x.gpu); });
  add(bench.cpu(), x.cpu, x.cpu);
  add(bench.cpu(), x.cpu, x.cpu);
  CHECK(bench.difference(x) == "");
}

namespace {

constexpr std::int64_t positions = 300;

ModelConfig small_model() {
  return {.hidden_size = 256,
          .num_hidden_layers = 3,
          .num_attention_heads = 4,
          .num_key_value_heads = 2,
          .head_dim = 64,
          .intermediate_size = 352,
          .vocab_size = 257,
          .initializer_range = 0.08};
}

DecoderOptions small_options(const MtpConfig& mtp, DType dtype) {
  return {.model = small_model(),
          .mtp = mtp,
          .dtype = dtype,
          .sequences = 5,
          .positions = positions,
          .logits = 40};
}

std::int32_t token(std::int32_t sequence, std::int32_t position) {
  return (sequence * 31 + position * 17 + position * position) % 257;
}

/// Logits of depths 0 and 1 for some rows after a prompt. Each step runs `repeats` times.
std::vector<float> logits_of(Stream& stream, DType dtype, int repeats) {
  Decoder decoder(stream, small_options({.depths = 1}, dtype));
  decoder.parameters().initialize(stream, 3);
  std::vector<float> all;
  const auto step = [&](int level, std::int32_t begin, std::int32_t end) {
    std::vector<DecoderRow> rows;
    std::vector<CacheSlot> slots;
    for (std::int32_t s = 0; s < 5; ++s)
      for (std::int32_t t = begin; t < end; ++t) {
        rows.push_back({s, t, token(s, t + level)});
        slots.push_back({s, t});
      }
    decoder.forward(level, rows);
    return slots;
  };
  for (const int level : {0, 1}) {
    step(level, 0, 200);
    for (int repeat = 0; repeat < repeats; ++repeat)
      for (const std::int32_t width : {1, 4, 8}) {
        const std::int32_t first = 200 + repeat;
        const std::span<const float> found = decoder.logits(level, step(level, first, first + width));
        all.insert(all.end(), found.begin(), found.end());
      }
  }
  return all;
}

}  // namespace

TEST_CASE("replayed steps of a decoder give the bits of steps that are launched one by one") {
  const DType dtype = GENERATE(DType::f32, DType::bf16);
  Device device({.kind = DeviceKind::cuda, .deterministic = true});
  const std::vector<float> replayed = logits_of(device.stream(), dtype, 4);
  Profile profile;
  device.stream().set_profile(&profile);  // with a profile, no graph is launched
  CHECK(logits_of(device.stream(), dtype, 4) == replayed);
}

TEST_CASE("a decoder in bf16 on a GPU comes close to one in fp32 on the CPU") {
  Device device({.kind = DeviceKind::cuda, .deterministic = true});
  TestStream cpu(4);
  std::vector<float> found = logits_of(device.stream(), DType::bf16, 1),
                     expected = logits_of(cpu, DType::f32, 1);
  const Shape shape{static_cast<std::int64_t>(expected.size())};
  CHECK(relative_distance(tensor_over(std::span(found), shape), tensor_over(std::span(expected), shape)) <
        0.03);
}

TEST_CASE("the logits of rows that are verified together are those of rows one by one, bit by bit") {
  Device device({.kind = DeviceKind::cuda});
  Stream& stream = device.stream();
  Decoder decoder(stream, small_options({}, DType::bf16));
  decoder.parameters().initialize(stream, 3);
  const std::int32_t prompt = GENERATE(3, 130, 270);
  std::vector<DecoderRow> first;
  for (std::int32_t t = 0; t < prompt; ++t) first.push_back({0, t, token(0, t)});
  decoder.forward(0, first);
  const auto logits = [&](std::int32_t begin, std::int32_t end) {
    std::vector<DecoderRow> rows;
    std::vector<CacheSlot> slots;
    for (std::int32_t t = begin; t < end; ++t) {
      rows.push_back({0, t, token(0, t)});
      slots.push_back({0, t});
    }
    decoder.forward(0, rows);
    const std::span<const float> found = decoder.logits(0, slots);
    return std::vector(found.begin(), found.end());
  };
  constexpr std::int32_t width = 24;
  std::vector<float> single;
  for (std::int32_t t = prompt; t < prompt + width; ++t) {
    const std::vector<float> one = logits(t, t + 1);
    single.insert(single.end(), one.begin(), one.end());
  }
  for (const std::int32_t together : {2, 3, 4, 8, 12, 24}) {
    CAPTURE(prompt, together);
    std::vector<float> found;
    for (std::int32_t t = prompt; t < prompt + width; t += together) {
      const std::vector<float> some = logits(t, t + together);
      found.insert(found.end(), some.begin(), some.end());
    }
    CHECK(found == single);
  }
}

namespace {

using Texts = std::vector<std::vector<std::int32_t>>;

/// Returns the texts that a decoder in bf16 generates after the prompts.
Texts texts_after(Stream& stream, const Texts& prompts, const MtpConfig& heads, const TreeShape& drafts,
                  std::int64_t tokens) {
  DecoderOptions options = small_options(heads, DType::bf16);
  options.sequences = std::ssize(prompts);
  options.branches = branches_of(drafts);
  options.logits = options.sequences * (1 + drafts_in(drafts));
  Decoder decoder(stream, options);
  decoder.parameters().initialize(stream, 5);
  HeadDrafter drafter(decoder);
  Generator generator(
      decoder, {.sampling = {.temperature = 0}, .max_tokens = tokens, .vocabulary = 257, .drafts = drafts},
      prompts, &drafter);
  while (generator.round([](std::size_t, std::span<const std::int32_t>) { return std::nullopt; })) {
  }
  Texts found;
  for (std::size_t i = 0; i < prompts.size(); ++i)
    found.emplace_back(generator.text(i).begin(), generator.text(i).end());
  return found;
}

}  // namespace

TEST_CASE("greedy speculative text in bf16 on a GPU is the plain text, token by token") {
  const NamedHeads heads = GENERATE(from_range(every_kind_of_heads(2)));
  CAPTURE(heads.name);
  Device device({.kind = DeviceKind::cuda});
  const auto texts = [&](const TreeShape& drafts) {
    return texts_after(device.stream(), {{3, 1, 4, 1, 5, 9, 2, 6}, {5}, {200, 100}}, heads.mtp, drafts, 150);
  };
  const Texts plain = texts({});
  for (const TreeShape& drafts : {TreeShape{1}, {1, 1, 1}, {1, 1, 1, 1, 1}, {3, 2}, {2, 1, 2}})
    CHECK(texts(drafts) == plain);
}

TEST_CASE("greedy speculative text in bf16 on a GPU is the plain text where hundreds of rows are verified") {
  Device device({.kind = DeviceKind::cuda});
  Texts prompts;
  for (std::int32_t sequence = 0; sequence < 32; ++sequence)
    for (std::int32_t t = 0; t <= sequence; ++t) {
      if (t == 0) prompts.emplace_back();
      prompts.back().push_back(token(sequence, t));
    }
  const auto texts = [&](const TreeShape& drafts) {
    return texts_after(device.stream(), prompts, {.depths = 3}, drafts, 100);
  };
  const Texts plain = texts({});
  for (const TreeShape& drafts : {TreeShape{1, 1, 1}, {3, 2, 2}, TreeShape(12, 1)})
    CHECK(texts(drafts) == plain);
}
