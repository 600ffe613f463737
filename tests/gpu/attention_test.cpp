// Attention compared with the CPU, for shapes that fill whole tiles and shapes that do not.

#include "runtime/operators/attention/attention.h"

#include <algorithm>
#include <tuple>
#include <vector>

#include "tests/gpu/attention_noise.h"
#include "tests/gpu/twin.h"
#include "tests/support/catch.h"

using namespace foretoken;
using namespace foretoken::testing;

TEST_CASE("attention matches the CPU, with and without documents and rope's tables, in both modes") {
  const bool deterministic = GENERATE(false, true);
  TwinBench bench(any_dtype(), deterministic);
  const auto [b, t, heads, key_value, size] = GENERATE(
      table<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t>({{1, 1, 1, 1, 2},
                                                                                   {2, 7, 2, 1, 6},
                                                                                   {2, 65, 4, 2, 32},
                                                                                   {1, 200, 6, 1, 64},
                                                                                   {2, 129, 2, 2, 80},
                                                                                   {1, 256, 4, 4, 128},
                                                                                   {1, 333, 2, 1, 128}}));
  const bool documents = GENERATE(false, true), with_rope = GENERATE(false, true);
  CAPTURE(name_of(bench.dtype()), deterministic, b, t, heads, key_value, size, documents, with_rope);
  const AttentionHeads shape{.query = heads, .key_value = key_value, .dim = size};
  const Twin qkv = bench.normal("qkv", {b, t, (heads + 2 * key_value) * size});
  Twin start;
  if (documents) {  // a document of one token, some short ones, a long one; row 1 is ignored
    std::vector<std::int32_t> starts;
    for (std::int64_t row = 0; row < b; ++row)
      for (std::int64_t at = 0; at < t + 2; ++at)
        starts.push_back(row == 1     ? -1
                         : at < 5     ? (at < 1 ? 0 : 1)
                         : at < t / 2 ? static_cast<std::int32_t>(at / 5 * 5)
                                      : static_cast<std::int32_t>(t / 2));
    for (std::size_t at = 1; at < starts.size(); ++at)
      if (at % static_cast<std::size_t>(t + 2) != 0) starts[at] = std::max(starts[at], starts[at - 1]);
    start = bench.integers({b, t + 2}, starts);
  }
  const Twin out = bench.poisoned({b, t, heads * size}),
             lse = bench.poisoned({b, heads, t}, bench.statistics());
  run(bench, attention_forward, [&](auto on) {
    return AttentionForward{
        .heads = shape, .qkv = qkv.*on, .document_start = start.*on, .out = out.*on, .lse = lse.*on};
  });
  const DType dtype = bench.dtype();
  Arena arena(DeviceKind::cpu);
  const AttentionForwardNoise noise = attention_noise(
      arena,
      AttentionForward{
          .heads = shape, .qkv = qkv.cpu, .document_start = start.cpu, .out = out.cpu, .lse = lse.cpu},
      dtype);
  CHECK(bench.difference(out, {.relative = stored(dtype), .terms = {{1, noise.out}}}) == "");
  CHECK(bench.difference(lse, {.relative = stored(DType::f32), .terms = {{1, noise.lse}}}) == "");
  bench.copy_to_cpu(out);
  bench.copy_to_cpu(lse);
  const Twin dout = bench.normal("dout", {b, t, heads * size}), dqkv = bench.poisoned(qkv.cpu.shape);
  Twin cos, sin;
  if (with_rope) std::tie(cos, sin) = bench.rope_tables(t, size, 100);
  const auto backward = [&](auto on) {
    return AttentionBackward{.heads = shape,
                             .dout = dout.*on,
                             .qkv = qkv.*on,
                             .document_start = start.*on,
                             .out = out.*on,
                             .lse = lse.*on,
                             .rope_cos = cos.*on,
                             .rope_sin = sin.*on,
                             .dqkv = dqkv.*on};
  };
  run(bench, attention_backward, backward);
  CHECK(bench.difference(dqkv, {.relative = stored(dtype),
                                .terms = {{1, attention_noise(arena, backward(&Twin::cpu), dtype)}}}) == "");
}
