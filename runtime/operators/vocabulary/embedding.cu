#include <cub/device/device_radix_sort.cuh>

#include "runtime/cuda/context.h"
#include "runtime/cuda/overlap.cuh"
#include "runtime/operators/vocabulary/embedding.h"

namespace foretoken::cuda {

namespace {

constexpr int threads = 256;

struct Window {
  const std::int32_t *tokens, *chosen;  // [B, S]; [M], or null
  std::int64_t t, s, first;

  __device__ std::int32_t token(std::int64_t n) const {
    const std::int32_t token = tokens[n / t * s + first + n % t];
    return token < 0 ? max(chosen[-1 - token], 0) : token;
  }
};

/// out[n] = table[token(n)]. A block owns a position n and copies its token's row; a thread copies packs of
/// N.
template <class T, int N>
__global__ void look_up(Window window, const T* table, T* out, std::int64_t c) {
  launch_dependents();
  wait_for_earlier_work();
  const std::int64_t n = blockIdx.x;
  const T* from = table + window.token(n) * c;
  for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * N; i < c; i += threads * N)
    store<N>(out + n * c + i, load<N>(from + i));
}

/// Lists the token of every position, as input of the sort. A thread owns a position.
__global__ void list_tokens(Window window, std::int32_t* tokens, std::int32_t* positions,
                            std::int64_t count) {
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (n >= count) return;
  tokens[n] = window.token(n);
  positions[n] = static_cast<std::int32_t>(n);
}

/// dtable[token] += Σ dout over the token's positions, in position order. The positions are sorted by token.
/// A block owns `threads` columns of one entry of the sorted list. It works only if the entry is the first of
/// its token, so every row of the table has one writer; a thread owns a column. `ahead` rows are read before
/// they are added, which hides latency for frequent tokens.
template <class T>
__global__ void add_sorted(const std::int32_t* __restrict__ tokens,
                           const std::int32_t* __restrict__ positions, std::int64_t count,
                           const T* __restrict__ dout, float* __restrict__ dtable, std::int64_t c) {
  constexpr int ahead = 8;
  const std::int64_t begin = blockIdx.x;
  const std::int32_t token = tokens[begin];
  if (begin > 0 && tokens[begin - 1] == token) return;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.y) * threads + threadIdx.x;
  if (column >= c) return;
  float sum = dtable[token * c + column];
  for (std::int64_t i = begin; i < count && tokens[i] == token; i += ahead) {
    float value[ahead];
#pragma unroll
    for (int j = 0; j < ahead; ++j)
      value[j] =
          i + j < count && tokens[i + j] == token ? to_float(dout[positions[i + j] * c + column]) : 0.0F;
#pragma unroll
    for (int j = 0; j < ahead; ++j) sum += value[j];
  }
  dtable[token * c + column] = sum;
}

Window window_of(const Tensor& tokens, const Tensor& chosen, std::int64_t first, const Tensor& out) {
  return {.tokens = tokens.as<std::int32_t>(),
          .chosen = chosen.defined() ? chosen.as<std::int32_t>() : nullptr,
          .t = out.shape[1],
          .s = tokens.shape[1],
          .first = first};
}

}  // namespace

void embedding_forward(Stream& stream, const EmbeddingForward& op) {
  const std::int64_t count = op.out.shape[0] * op.out.shape[1], c = op.out.shape[2];
  if (count == 0) return;
  const Window window = window_of(op.tokens, op.chosen, op.first, op.out);
  with_activation("embedding_forward", op.out.dtype, [&]<class T>() {
    const T* table = static_cast<const T*>(op.table.data);
    T* out = static_cast<T*>(op.out.data);
    constexpr int pack = lane_elements<T>;
    const Blocks blocks{.grid = dim3(static_cast<unsigned>(count)), .threads = threads};
    launch_overlapped(stream.cuda().stream(), packs<pack>(c, table, out) ? look_up<T, pack> : look_up<T, 1>,
                      blocks, window, table, out, c);
  });
}

void embedding_backward_weight(Stream& stream, const EmbeddingBackwardWeight& op) {
  const std::int64_t count = op.dout.shape[0] * op.dout.shape[1], c = op.dout.shape[2];
  if (count == 0) return;
  Context& gpu = stream.cuda();
  int bits = 1;
  while (std::int64_t{1} << bits < op.dtable.shape[0]) ++bits;
  // A stable sort keeps a token's positions in order, so the sum has the same bits in every run.
  std::size_t sort_bytes = 0;
  std::int32_t* none = nullptr;
  check(cub::DeviceRadixSort::SortPairs(nullptr, sort_bytes, none, none, none, none, static_cast<int>(count),
                                        0, bits),
        "sort");
  const std::size_t list = (static_cast<std::size_t>(count) * sizeof(std::int32_t) + 255) / 256 * 256;
  auto* memory = static_cast<std::byte*>(gpu.workspace(4 * list + sort_bytes));
  const auto at = [&](int i) { return reinterpret_cast<std::int32_t*>(memory + i * list); };
  std::int32_t *tokens = at(0), *positions = at(1), *sorted_tokens = at(2), *sorted_positions = at(3);

  list_tokens<<<blocks_for(count, threads), threads, 0, gpu.stream()>>>(
      window_of(op.tokens, {}, op.first, op.dout), tokens, positions, count);
  check(cub::DeviceRadixSort::SortPairs(memory + 4 * list, sort_bytes, tokens, sorted_tokens, positions,
                                        sorted_positions, static_cast<int>(count), 0, bits, gpu.stream()),
        "sort");
  const dim3 blocks(static_cast<unsigned>(count), blocks_for(c, threads));
  with_activation("embedding_backward_weight", op.dout.dtype, [&]<class T>() {
    add_sorted<<<blocks, threads, 0, gpu.stream()>>>(sorted_tokens, sorted_positions, count,
                                                     static_cast<const T*>(op.dout.data),
                                                     op.dtable.as<float>(), c);
  });
  check_launch("embedding_backward_weight");
}

}  // namespace foretoken::cuda
