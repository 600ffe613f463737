#pragma once
// Tiles of bf16 rows in shared memory, and the operations on them that the tensor-core kernels of forward and
// backward share.
//
// A tile of R rows of HS columns is stored as HS/W panels of [R × W], with W = 64 if it divides HS and 32
// otherwise. This is the layout that wgmma calls 128-byte or 64-byte swizzle: the 16-byte pieces of a row are
// permuted by the row's number, so that the pieces of one column in eight rows, and the pieces of one row,
// are in different banks. wgmma can read a tile as an operand with depth HS or, transposed, with depth R.

#include <cmath>

#include "runtime/cuda/hopper.cuh"
#include "runtime/operators/attention/flash_attention_kernels.h"

namespace foretoken::cuda::flash {

constexpr int warpgroup = 128;      // threads that issue a wgmma together
constexpr int warpgroup_rows = 64;  // rows of the product that a warpgroup owns
constexpr int block_threads = 2 * warpgroup;
constexpr int block_rows = 2 * warpgroup_rows;

constexpr float log2_e = 1.4426950408889634f;

template <int HS, int R>
struct Tile {
  static constexpr int width = HS % 64 == 0 ? 64 : 32;
  static constexpr int row_bytes = 2 * width;
  static constexpr int panel_bytes = R * row_bytes;
  static constexpr int bytes = R * HS * 2;
  static constexpr int band_bytes = 8 * row_bytes;  // a band: eight rows, after which the permutation repeats
  static_assert(HS % width == 0 && R % 8 == 0);

  /// Byte offset of column c, a multiple of eight, in the first row of a band, which is not permuted.
  __device__ static constexpr int column(int c) { return c / width * panel_bytes + c % width * 2; }
  /// Descriptor of an operand: rows from `row` on (a multiple of eight), columns [16·step, 16·step + 16).
  __device__ static std::uint64_t columns(std::uint32_t tile, int row, int step) {
    return descriptor(tile, row * row_bytes + column(16 * step), 16);
  }
  /// Descriptor of a transposed operand: rows [16·step, 16·step + 16), all HS columns.
  __device__ static std::uint64_t rows(std::uint32_t tile, int step) {
    return descriptor(tile, 16 * step * row_bytes, panel_bytes);
  }

  /// Starts asynchronous copies of rows [first, first + R) of a matrix with rows `stride` elements apart.
  /// Rows from `end` on become zero. A thread copies the same piece of every panel, in every `pass`-th row.
  __device__ static void load(std::uint32_t tile, const __nv_bfloat16* matrix, std::int64_t stride, int first,
                              int end) {
    constexpr int pieces = width / 8, pass = block_threads / pieces;  // 16-byte pieces of a panel's row
    static_assert(R % pass == 0 && pass % 8 == 0);
    const int row = threadIdx.x / pieces, piece = threadIdx.x % pieces;
    const int permuted = piece ^ (width == 64 ? row & 7 : (row >> 1) & 3);
    const std::uint32_t to = tile + row * row_bytes + permuted * 16;
    const __nv_bfloat16* from = matrix + (first + row) * stride + piece * 8;
#pragma unroll
    for (int below = 0; below < R; below += pass, from += pass * stride)
#pragma unroll
      for (int panel = 0; panel < HS / width; ++panel)
        copy_16_async(to + panel * panel_bytes + below * row_bytes, from + panel * width,
                      first + row + below < end);
  }

 private:
  __device__ static std::uint64_t descriptor(std::uint32_t tile, int offset, int leading) {
    constexpr Swizzle swizzle = width == 64 ? Swizzle::rows_128 : Swizzle::rows_64;
    return matrix_descriptor<swizzle, band_bytes>(tile / 16 + offset / 16, leading);
  }
};

/// Swizzled tiles start at multiples of 1024 bytes. first_tile() returns the first such address in shared
/// memory.
constexpr int tile_alignment = 1024;
__device__ __forceinline__ std::uint32_t first_tile(const unsigned char* shared) {
  return (shared_address(shared) + tile_alignment - 1) / tile_alignment * tile_alignment;
}

/// Starts d [64 × N] = A Bᵀ with depth HS. A is rows [row, row + 64) of tile a, which has RA rows; B is tile
/// b, which has N rows.
template <int HS, int RA, int N>
__device__ __forceinline__ void row_products(float (&d)[N / 2], std::uint32_t a, int row, std::uint32_t b) {
#pragma unroll
  for (int step = 0; step < HS / 16; ++step)
    WgmmaM64K16<N>::template multiply<Major::k, Major::k>(d, Tile<HS, RA>::columns(a, row, step),
                                                          Tile<HS, N>::columns(b, 0, step), step > 0);
}

/// Starts d [64 × HS] += A B. A [64 × R] is in registers, as pack() returns it; B is tile b with R rows. Only
/// the steps [from, to) of depth 16 are added, so that a caller can split the product.
template <int HS, int R, int from = 0, int to = R / 16>
__device__ __forceinline__ void weighted_rows(float (&d)[HS / 2], const std::uint32_t (&a)[R / 4],
                                              std::uint32_t b) {
#pragma unroll
  for (int step = from; step < to; ++step)
    WgmmaM64K16<HS>::template multiply<Major::mn>(d, a + 4 * step, Tile<HS, R>::rows(b, step), true);
}

/// Issues weighted_rows() as a group of its own, after the instructions that wrote d and a.
template <int HS, int R, int from = 0, int to = R / 16>
__device__ __forceinline__ void start_weighted_rows(float (&d)[HS / 2], std::uint32_t (&a)[R / 4],
                                                    std::uint32_t b) {
  pin(d);
  pin(a);
  wgmma_begin();
  weighted_rows<HS, R, from, to>(d, a, b);
  wgmma_commit();
}

/// Rounds two floats to bf16 and packs them into 32 bits.
__device__ __forceinline__ std::uint32_t packed(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

/// Converts a product [64 × N] to bf16, as operand A of another product. A thread holds the same elements of
/// both, so no data moves between threads.
template <int count>
__device__ __forceinline__ void pack(const float (&d)[count], std::uint32_t (&a)[count / 2]) {
#pragma unroll
  for (int i = 0; i < count / 2; ++i) a[i] = packed(d[2 * i], d[2 * i + 1]);
}

/// Stores the operands A of both warpgroups, [64 × columns of the tile] each, as the 128 rows of a tile.
template <class Tile, int count>
__device__ __forceinline__ void store_operand(std::uint32_t tile, const std::uint32_t (&a)[count]) {
  static_assert(Tile::width == 64 && Tile::bytes == 2 * warpgroup * 4 * count);
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane % 16;
  const std::uint32_t to = tile + row * Tile::row_bytes;
  const int piece = lane / 16 ^ row % 8;
#pragma unroll
  for (int i = 0; i < count; i += 4)
    store_matrices(to + i / 16 * Tile::panel_bytes + (piece ^ i / 2 % 8) * 16, a + i);
}

/// This thread's position in the products of its warpgroup: it holds rows `row` and row + 8, and of each
/// eight columns 8g + [0, 8) the two from 8g + `column` on.
struct Place {
  int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;  // within the block's 128
  int column = threadIdx.x % 4 * 2;
};

/// Writes this thread's part of d [64 × HS] to a matrix in bf16. `row` is the matrix row of the thread's
/// first row; its second is row + 8. They are multiplied by scale[0] and scale[1]. Rows from `end` on are not
/// written.
template <int HS>
__device__ __forceinline__ void store_rows(const float (&d)[HS / 2], const float (&scale)[2],
                                           __nv_bfloat16* matrix, std::int64_t stride, int row, int end) {
  __nv_bfloat16* to = matrix + row * stride + Place{}.column;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    if (row + 8 * r >= end) continue;
#pragma unroll
    for (int g = 0; g < HS / 8; ++g)
      *reinterpret_cast<std::uint32_t*>(to + 8 * r * stride + 8 * g) =
          packed(d[4 * g + 2 * r] * scale[r], d[4 * g + 2 * r + 1] * scale[r]);
  }
}

/// Calls f<HS>() for a head size that the tensor-core kernels support.
template <class F>
void with_head_dim(int dim, F f) {
  switch (dim) {
    case 32:
      return f.template operator()<32>();
    case 64:
      return f.template operator()<64>();
    case 96:
      return f.template operator()<96>();
    default:
      return f.template operator()<128>();
  }
}

}  // namespace foretoken::cuda::flash
