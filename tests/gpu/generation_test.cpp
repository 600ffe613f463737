// Compares generation on a GPU with the CPU: operators, decoder and the command foretoken generate.

#include <algorithm>
#include <cmath>

#include "model/generation/generator.h"
#include "runtime/operators/attention/cached_attention.h"
#include "tests/gpu/attention_noise.h"
#include "tests/gpu/twin.h"
#include "tests/support/catch.h"
#include "tests/support/models/tiny_model.h"
#include "tests/system/program.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

/// The absolute error of cached_attention's output for rows whose keys are in the given slots of the cache.
Tensor cached_noise(TwinBench& bench, const CachedAttention& op,
                    const std::vector<std::vector<std::int64_t>>& slots) {
  const auto [nh, nkv, hs] = op.heads;
  const Tensor noise = bench.magnitudes(op.out.shape);
  for (std::size_t row = 0; row < slots.size(); ++row)
    for (std::int64_t head = 0; head < nh; ++head) {
      std::vector<const float*> keys, values;
      for (const std::int64_t slot : slots[row]) {
        keys.push_back(op.cache.as<float>() + (slot * 2 * nkv + head / (nh / nkv)) * hs);
        values.push_back(keys.back() + nkv * hs);
      }
      const auto at = static_cast<std::int64_t>(row);
      const QueryNoise query = query_noise(op.qkv.as<float>() + at * (nh + 2 * nkv) * hs + head * hs, keys,
                                           values, hs, bench.dtype());
      std::copy(query.out.begin(), query.out.end(), noise.as<float>() + (at * nh + head) * hs);
    }
  return noise;
}

}  // namespace

TEST_CASE("cached attention matches the CPU, in one part and in several") {
  TwinBench bench(GENERATE(DType::f32, DType::bf16));
  struct Case {
    AttentionHeads heads;
    std::int64_t sequences, sequence_slots;
    std::vector<std::int32_t> slots;
  };
  const std::vector<Case> cases{
      {{4, 2, 4}, 2, 5, {0, 1, 7}},
      {{4, 4, 64}, 1, 900, {899}},
      {{8, 2, 128}, 3, 300, {299, 0, 300, 301, 302, 303, 700}},
      {{32, 4, 80}, 2, 2100, {2099, 2100 + 1500}},
      {{6, 1, 256}, 1, 70, {3, 4, 5, 6, 7, 69}},
      {{2, 2, 6}, 40, 33, {}},  // one row per sequence; the slots are set below
  };
  Case each = GENERATE_REF(from_range(cases));
  if (each.slots.empty())
    for (std::int32_t s = 0; s < 40; ++s) each.slots.push_back(s * 33 + (s * 7) % 33);
  const auto [nh, nkv, hs] = each.heads;
  const auto n = static_cast<std::int64_t>(each.slots.size());
  const std::int64_t width = (nh + 2 * nkv) * hs;
  CAPTURE(name_of(bench.dtype()), nh, nkv, hs, n);
  const Twin qkv = bench.normal("qkv", {n, width});
  const Twin cache = bench.normal("cache", {each.sequences, each.sequence_slots, 2 * nkv * hs});
  const Twin slots = bench.integers({n}, each.slots), out = bench.poisoned({n, nh * hs});
  const auto attention = [&](auto on) {
    return CachedAttention{
        .heads = each.heads, .qkv = qkv.*on, .slots = slots.*on, .cache = cache.*on, .out = out.*on};
  };
  for (auto on : {&Twin::cpu, &Twin::gpu}) {
    Stream& stream = on == &Twin::cpu ? bench.cpu() : bench.gpu();
    cache_store(stream, {.x = {qkv.*on, nh * hs}, .slots = slots.*on, .cache = cache.*on});
    cached_attention(stream, attention(on));
  }
  CHECK(bench.difference(cache) == "");
  std::vector<std::vector<std::int64_t>> key_slots;
  for (const std::int32_t slot : each.slots) {
    key_slots.emplace_back();
    for (std::int64_t key = slot / each.sequence_slots * each.sequence_slots; key <= slot; ++key)
      key_slots.back().push_back(key);
  }
  CHECK(bench.difference(out, {.relative = stored(bench.dtype()),
                               .terms = {{1, cached_noise(bench, attention(&Twin::cpu), key_slots)}}}) == "");
}

TEST_CASE("cached attention over a tree's slots matches the CPU, and so do the keys that cache_move copies") {
  TwinBench bench(GENERATE(DType::f32, DType::bf16));
  struct Case {
    AttentionHeads heads;
    std::int64_t sequence_slots;
    std::int32_t known;  // number of text keys in each of two sequences, before a tree of 5
  };
  const Case each = GENERATE(Case{{4, 2, 64}, 20, 9}, Case{{16, 4, 128}, 900, 800}, Case{{2, 1, 6}, 12, 0});
  const auto [nh, nkv, hs] = each.heads;
  const std::int64_t width = (nh + 2 * nkv) * hs;
  CAPTURE(name_of(bench.dtype()), nh, nkv, hs);
  const std::vector<std::vector<std::int32_t>> branches{{0}, {1}, {2, 0}, {3, 1}, {4, 3, 1}};
  std::vector<std::int32_t> at, positions, paths;
  for (std::int32_t sequence = 0; sequence < 2; ++sequence)
    for (const std::vector<std::int32_t>& branch : branches) {
      const auto depth = static_cast<std::int32_t>(branch.size());
      at.push_back(sequence * static_cast<std::int32_t>(each.sequence_slots) + each.known + branch[0]);
      positions.push_back(each.known + depth - 1);
      for (std::int32_t back = 0; back < 3; ++back)
        paths.push_back(back < depth ? each.known + branch[static_cast<std::size_t>(back)]
                                     : std::max(positions.back() - back, 0));
    }
  const Twin qkv = bench.normal("qkv", {10, width});
  const Twin cache = bench.normal("cache", {2, each.sequence_slots, 2 * nkv * hs});
  const Twin slots = bench.integers({10}, at), at_positions = bench.integers({10}, positions),
             path = bench.integers({10, 3}, paths), out = bench.poisoned({10, nh * hs});
  const Twin from = bench.integers({3}, {each.known + 1, each.known + 3, each.known + 4}),
             to = bench.integers({3}, {each.known, each.known + 1, each.known + 2});
  const auto attention = [&](auto on) {
    return CachedAttention{.heads = each.heads,
                           .qkv = qkv.*on,
                           .slots = slots.*on,
                           .positions = at_positions.*on,
                           .paths = path.*on,
                           .cache = cache.*on,
                           .out = out.*on};
  };
  std::vector<std::vector<std::int64_t>> key_slots;
  for (std::size_t row = 0; row < at.size(); ++row) {
    const std::int64_t sequence = static_cast<std::int64_t>(row / branches.size()) * each.sequence_slots;
    key_slots.emplace_back();
    for (std::int64_t position = 0; position <= positions[row]; ++position) {
      const std::int64_t back = positions[row] - position;
      key_slots.back().push_back(sequence +
                                 (back < 3 ? paths[row * 3 + static_cast<std::size_t>(back)] : position));
    }
  }
  Tensor noise;
  for (auto on : {&Twin::cpu, &Twin::gpu}) {
    Stream& stream = on == &Twin::cpu ? bench.cpu() : bench.gpu();
    cache_store(stream, {.x = {qkv.*on, nh * hs}, .slots = slots.*on, .cache = cache.*on});
    cached_attention(stream, attention(on));
    if (on == &Twin::cpu) noise = cached_noise(bench, attention(on), key_slots);
    cache_move(stream, {.from = from.*on, .to = to.*on, .cache = cache.*on});
  }
  CHECK(bench.difference(cache) == "");
  CHECK(bench.difference(out, {.relative = stored(bench.dtype()), .terms = {{1, noise}}}) == "");
}

TEST_CASE("rope at given positions matches the CPU") {
  TwinBench bench(GENERATE(DType::f32, DType::bf16));
  const std::int64_t hs = GENERATE(6, 64);
  const Twin qkv = bench.normal("qkv", {1, 5, 4 * hs});
  const Twin cos = bench.normal("cos", {40, hs / 2}, DType::f32, 1),
             sin = bench.normal("sin", {40, hs / 2}, DType::f32, 1);
  const Twin positions = bench.integers({1, 5}, {39, 0, 7, 7, 20});
  // The tables hold random numbers, not cosines and sines, so the bound includes their largest magnitude.
  const Tensor magnitude = bench.absolutes(qkv.cpu);
  float largest = 0;
  for (const Twin& table : {cos, sin})
    for (const float value : table.cpu.span<float>()) largest = std::max(largest, std::abs(value));
  for (std::int64_t head = 0; head < magnitude.elements(); head += hs)
    for (std::int64_t i = head; i < head + hs / 2; ++i) {
      float &first = magnitude.as<float>()[i], &second = magnitude.as<float>()[i + hs / 2];
      first = second = (first + second) * largest;
    }
  for (auto on : {&Twin::cpu, &Twin::gpu})
    rope(on == &Twin::cpu ? bench.cpu() : bench.gpu(),
         {.qkv = qkv.*on, .cos = cos.*on, .sin = sin.*on, .heads = 3, .positions = positions.*on});
  CHECK(bench.difference(
            qkv, {.relative = stored(bench.dtype()), .terms = {{stored(DType::f32), magnitude}}}) == "");
}

namespace {

using Texts = std::vector<std::vector<std::int32_t>>;

Texts texts_on(Stream& stream, const MtpConfig& mtp, DType dtype, const TreeShape& drafts) {
  const Texts prompts{{3, 1, 4, 1, 5, 9, 2, 6}, {5}, {3, 5, 8, 9, 7, 9, 3}};
  Decoder decoder(stream, {.model = tiny_model(),
                           .mtp = mtp,
                           .dtype = dtype,
                           .sequences = 3,
                           .positions = 50,
                           .branches = branches_of(drafts),
                           .rows = 7,
                           .logits = 3 * (1 + drafts_in(drafts))});
  decoder.parameters().initialize(stream, 11);
  std::unique_ptr<Drafter> drafter;
  if (!drafts.empty()) drafter = std::make_unique<HeadDrafter>(decoder);
  Generator generator(decoder,
                      {.sampling = {.temperature = 0}, .max_tokens = 40, .vocabulary = 11, .drafts = drafts},
                      prompts, drafter.get());
  while (generator.round([](std::size_t, std::span<const std::int32_t>) { return std::nullopt; })) {
  }
  Texts texts;
  for (std::size_t i = 0; i < prompts.size(); ++i)
    texts.emplace_back(generator.text(i).begin(), generator.text(i).end());
  return texts;
}

}  // namespace

TEST_CASE("greedy text on a GPU in fp32 is the CPU's, for every kind of heads") {
  const NamedHeads heads = GENERATE(from_range(every_kind_of_heads(2)));
  CAPTURE(heads.name);
  TestStream cpu;
  const Texts expected = texts_on(cpu, {}, DType::f32, {});
  Device device({.kind = DeviceKind::cuda, .deterministic = true});
  for (const TreeShape& drafts : {TreeShape{}, {1}, {1, 1}, {1, 1, 1, 1}, {3, 2, 1}, {1, 2, 2, 1}})
    CHECK(texts_on(device.stream(), heads.mtp, DType::f32, drafts) == expected);
}

TEST_CASE("generate on a GPU in bf16 continues text, speculates and repeats its output for a seed") {
  const TemporaryFolder folder;
  const std::string path = (folder / "run").string();
  const Outcome trained =
      run(fmt::format("{} {} --run-directory {} --set train.steps=300 --set optimizer.lr=0.02", program(),
                      small_training(folder), path));
  INFO(trained.output);
  REQUIRE(trained.code == 0);
  const auto generate = [&](const std::string& arguments) {
    const Outcome outcome =
        run(fmt::format("{} generate {} --device cuda --prompt 'line 25 of a text that' --prompt line {}",
                        program(), path, arguments));
    INFO(outcome.output);
    CHECK(outcome.code == 0);
    return outcome.output;
  };
  CHECK_THAT(generate("--temperature 0 --speculate 2 --max-tokens 40"),
             contains(" repeat") && contains("acceptance rate 0."));
  CHECK_THAT(generate("--temperature 0 --tree 3,2 --max-tokens 40"), contains(" repeat"));
  CHECK_THAT(generate("--temperature 0 --speculate auto --max-tokens 200"), contains(" repeat"));
  const std::string sampled = "--seed 3 --speculate 3 --max-tokens 40 2>/dev/null";
  CHECK(generate(sampled) == generate(sampled));
}
