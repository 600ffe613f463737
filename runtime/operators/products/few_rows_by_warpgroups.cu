#include "runtime/cuda/context.h"
#include "runtime/cuda/overlap.cuh"
#include "runtime/cuda/shared_memory.h"
#include "runtime/operators/products/few_rows_by_warpgroups.h"
#include "runtime/operators/products/few_rows_operands.cuh"
#include "runtime/operators/products/few_rows_results.cuh"

namespace foretoken::cuda::few_rows {

namespace {

constexpr int warpgroup = 128;
constexpr int copied_rows = warpgroup / 4;  // rows that a warpgroup copies at once, 16 bytes per thread
constexpr int row_bytes = 2 * depth;        // bytes of a row of W in one stage of the ring

/// Division of the work. A block computes 64 outputs for `rows` rows over two of the eight slices of I, one
/// per warpgroup. The other `spread` − 1 blocks of its cluster compute the other slices.
template <int rows_>
struct Tiling {
  static constexpr int rows = rows_, outputs = 64, spread = 4;
  static constexpr int pitch = outputs + 4;        // floats per row of partial sums; avoids bank conflicts
  static constexpr int ahead = 128 / rows;         // x is read this number of steps ahead
  static constexpr int many = rows / copied_rows;  // rows of x that a thread loads
  // Shared memory of a slice: a ring of stages of W, and two stages of x. A stage of x is four arrays [rows,
  // 4 lanes] of 32-bit words: the i-th array has the i-th word of each lane's 16 bytes.
  static constexpr int stages = 8, weight_bytes = outputs * row_bytes;
  static constexpr int word_bytes = rows * 16, x_bytes = 4 * word_bytes;
  static constexpr int slice_bytes = stages * weight_bytes + 2 * x_bytes, bytes = 2 * slice_bytes;
  static_assert(slices == 2 * spread && bytes >= (rows * pitch + rows * outputs) * 4);
};

/// The 16-byte pieces of x that a thread is loading from memory, one per row, and the 16 bytes of the norm's
/// weight for the same columns.
template <class T>
struct Pieces {
  uint4 x[T::many], norm;
};

/// Stores a step's pieces of x as operand B in a stage of x in shared memory. If `normed`, first adds the
/// squares of x to `squares`, one sum per row, and then multiplies x by the norm's weight. `to` is the
/// shared-memory address of the thread's word for its first row in the first of the stage's four arrays
/// (Tiling).
template <class T, bool normed>
__device__ __forceinline__ void store_pieces(Pieces<T>& from, float (&squares)[T::many], std::uint32_t to) {
#pragma unroll
  for (int i = 0; i < T::many; ++i) {
    uint4& x = from.x[i];
    if constexpr (normed) {
      add_squares(squares[i], x);
      x = scaled(x, from.norm);
    }
    const std::uint32_t words[] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int word = 0; word < 4; ++word)
      store_shared_4(to + word * T::word_bytes + i * copied_rows * 16, words[word]);
  }
  fence_async_proxy();
}

/// Starts the products of a step: d (+)= W · xᵀ, with the thread's rows of W at `weights` and operand B at
/// `x`.
template <class T>
__device__ __forceinline__ void start_products(float (&d)[T::rows / 2], std::uint32_t weights,
                                               std::uint32_t x, bool accumulate) {
  const uint4 upper = load_shared_16(weights), lower = load_shared_16(weights + 8 * row_bytes);
  std::uint32_t a[2][4] = {{upper.x, lower.x, upper.y, lower.y}, {upper.z, lower.z, upper.w, lower.w}};
  pin(a[0]);
  pin(a[1]);
  wgmma_begin();
#pragma unroll
  for (int half = 0; half < 2; ++half)
    WgmmaM64K16<T::rows>::template multiply<Major::k>(
        d, a[half],
        matrix_descriptor<Swizzle::none, 128>(matrix_place(x + 2 * half * T::word_bytes), T::word_bytes),
        accumulate || half > 0);
  wgmma_commit();
}

/// Adds the sums of the block's two slices: partial[row, output] and, with a norm, the sums of squares. The
/// memory behind the partial sums holds the values that the two warpgroups exchange; each adds half of the
/// rows.
template <class T, bool normed>
__device__ __forceinline__ void add_slices(const float (&d)[T::rows / 2], float (&squares)[T::many],
                                           float* partial) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, g = lane / 4, t = lane % 4;
  const int own_slice = thread / warpgroup, warp = thread % warpgroup / 32, copied = thread % warpgroup / 4;
  float *given = partial + T::rows * T::pitch, *squares_of = partial + copied * T::pitch + T::outputs;
  constexpr int half_sums = T::rows / 4;
#pragma unroll
  for (int i = 0; i < half_sums; ++i)
    given[i * block_threads + thread] = own_slice == 0 ? d[half_sums + i] : d[i];
  if constexpr (normed)
#pragma unroll
    for (int i = 0; i < T::many; ++i) {
      squares[i] = squares_of_lanes(squares[i]);
      if (own_slice == 1 && t == 0) squares_of[copied_rows * i * T::pitch] = squares[i];
    }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < half_sums; ++i) {
    const int row = T::rows / 2 * own_slice + i / 4 * 8 + 2 * t + i % 2,
              output = 16 * warp + g + i / 2 % 2 * 8;
    partial[row * T::pitch + output] =
        (own_slice == 0 ? d[i] : d[half_sums + i]) + given[i * block_threads + (thread ^ warpgroup)];
  }
  if constexpr (normed)
    if (own_slice == 0 && t == 0)
#pragma unroll
      for (int i = 0; i < T::many; ++i) squares_of[copied_rows * i * T::pitch] += squares[i];
}

/// out = x · Wᵀ for more than 16 rows (few_rows_linear.h), by wgmma: W is operand A, x is operand B. The bits
/// are those of multiply_rows(), because both kernels add the same 16 elements of I at a time.
///
/// A block owns a tile of 64 outputs × `rows` rows (Tiling). Its warpgroups compute a slice of I each; a
/// thread holds rows / 2 sums. W is copied asynchronously to a ring in shared memory, in rows of 64 bytes of
/// which a lane reads 16, as in multiply_rows(). x passes through registers, where it is multiplied by the
/// norm's weight, and is stored in shared memory as operand B. At the end the two slices of the block, then
/// those of the cluster are added. Neighbouring clusters process all rows of one tile of W, so that the tile
/// is read from memory once.
template <class T, Result result, bool normed>
__global__ void __launch_bounds__(block_threads, 2) multiply_many_rows(const Arguments p) {
  extern __shared__ __align__(128) unsigned char memory[];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, g = lane / 4, t = lane % 4;
  const int own_slice = thread / warpgroup, warp = thread % warpgroup / 32;
  const int rank = static_cast<int>(blockIdx.x) % T::spread, at = static_cast<int>(blockIdx.x) / T::spread;
  const int row_tiles = (p.rows + T::rows - 1) / T::rows, tile = at / row_tiles,
            first_row = at % row_tiles * T::rows;
  const int slice = 2 * rank + own_slice, steps = (p.inputs + depth - 1) / depth;
  const int begin = steps * slice / slices, count = steps * (slice + 1) / slices - begin;

  const int copied = thread % warpgroup / 4, column = begin * depth + 8 * t;
  const __nv_bfloat16 *weights[T::outputs / copied_rows], *rows[T::many];
#pragma unroll
  for (int i = 0; i < T::outputs / copied_rows; ++i) {
    const int output = copied + copied_rows * i;
    weights[i] = p.weight + column +
                 static_cast<std::int64_t>(
                     weight_row<result>(p, tile * (T::outputs / 16) + output / 16, output % 16)) *
                     p.inputs;
  }
#pragma unroll
  for (int i = 0; i < T::many; ++i)
    rows[i] = p.x + column +
              static_cast<std::int64_t>(min(first_row + copied + copied_rows * i, p.rows - 1)) * p.inputs;
  // Steps for which this thread has elements: rows may end before the last step's 32 elements do.
  const int filled = min(begin + count, (p.inputs - 8 * t + depth - 1) / depth) - begin;

  const std::uint32_t stages = shared_address(memory) + own_slice * T::slice_bytes;
  const auto weight_stage = [&](int step) { return stages + step % T::stages * T::weight_bytes; };
  const auto copy_weights = [&](int step) {
    if (step < count)
#pragma unroll
      for (int i = 0; i < T::outputs / copied_rows; ++i)
        copy_16_async(weight_stage(step) + (copied + copied_rows * i) * row_bytes + 16 * t,
                      step < filled ? weights[i] + step * depth : p.weight, step < filled);
    commit_copies();
  };
  launch_dependents();
  for (int step = 0; step < T::stages - 1; ++step) copy_weights(step);
  wait_for_earlier_work();

  const auto x_stage = [&](int step) { return stages + T::stages * T::weight_bytes + step % 2 * T::x_bytes; };
  const auto load_rows = [&](Pieces<T>& to, int step) {
#pragma unroll
    for (int i = 0; i < T::many; ++i) to.x[i] = load_row(rows[i] + step * depth, step < filled);
    if constexpr (normed) to.norm = load_row(p.norm + column + step * depth, step < filled);
  };
  float squares[T::many] = {};
  const auto store_rows = [&](Pieces<T>& from, int step) {
    store_pieces<T, normed>(from, squares, x_stage(step) + thread % warpgroup * 4);
  };

  Pieces<T> pieces[T::ahead];
#pragma unroll
  for (int step = 0; step < T::ahead; ++step) load_rows(pieces[step], step);
  store_rows(pieces[0], 0);
  load_rows(pieces[0], T::ahead);
  float d[T::rows / 2];
  pin(d);
  for (int first = 0; first < count; first += T::ahead) {
#pragma unroll
    for (int i = 0; i < T::ahead; ++i) {
      const int step = first + i;
      if (step >= count) break;
      wait_for_copies<T::stages - 2>();
      named_barrier(1 + own_slice, warpgroup);
      const std::uint32_t from = weight_stage(step) + (16 * warp + g) * row_bytes + 16 * t;
      start_products<T>(d, from, x_stage(step), step > 0);
      Pieces<T>& next = pieces[(i + 1) % T::ahead];
      store_rows(next, step + 1);
      load_rows(next, step + 1 + T::ahead);
      copy_weights(step + T::stages - 1);
      wgmma_wait<0>();
    }
  }
  pin(d);
  if (count == 0)
#pragma unroll
    for (float& sum : d) sum = 0;
  __syncthreads();

  auto* partial = reinterpret_cast<float*>(memory);  // in place of the stages
  add_slices<T, normed>(d, squares, partial);
  finish<T, result, normed>(p, partial, rank, tile, first_row);
}

template <int rows, Result result, bool normed>
void launch(cudaStream_t stream, const Problem& p) {
  using T = Tiling<rows>;
  constexpr auto kernel = multiply_many_rows<T, result, normed>;
  allow_shared_memory<kernel>(T::bytes, "linear");
  launch_overlapped(
      stream, kernel,
      {.grid = dim3(blocks_for(p.outputs, T::outputs) * blocks_for(p.rows, T::rows) * T::spread),
       .threads = block_threads,
       .cluster = T::spread,
       .shared = T::bytes},
      Arguments{p, p.heads ? *p.heads : Heads{}});
}

}  // namespace

void linear_by_warpgroups(Stream& stream, const Problem& p, bool wide) {
  dispatch(p, wide, [&](auto result, auto normed) {
    const cudaStream_t on = stream.cuda().stream();
    if (p.rows <= 32) return launch<32, result(), normed()>(on, p);
    // Of the tilings by 64 and by 128 rows, takes the larger one unless its last tile would be half empty.
    if (p.rows > 64 && (p.rows - 1) % 128 >= 64) return launch<128, result(), normed()>(on, p);
    return launch<64, result(), normed()>(on, p);
  });
}

}  // namespace foretoken::cuda::few_rows
