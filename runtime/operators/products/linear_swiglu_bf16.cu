// A matrix product fused with SwiGLU: each block applies the gate to its results before it stores them.

#include <algorithm>

#include "runtime/cuda/device.cuh"
#include "runtime/cuda/driver.h"
#include "runtime/cuda/hopper.cuh"
#include "runtime/cuda/shared_memory.h"
#include "runtime/operators/products/linear_swiglu_kernels.h"
#include "runtime/operators/rowwise/swiglu.cuh"

namespace foretoken::cuda::linear_swiglu {

namespace {

enum class Pass { forward, backward };

constexpr int warpgroup = 128;
constexpr int gate_threads = warpgroup - 32;
// Three warpgroups: one for copies and gates, one each for the product of the first and of the last 64 rows.
constexpr int block_threads = 3 * warpgroup;
constexpr int tile_rows = 128, half_rows = 64, tile_depth = 64;
// An operand is stored in panels of 64 columns (128-byte swizzle): the 16-byte pieces of a row are permuted
// by the row's number against bank conflicts. The permutation repeats every eight rows, a band.
constexpr int row_bytes = 128, band_bytes = 8 * row_bytes;

/// Sizes of a pass: the columns of a tile, the stages of the ring of operands, the blocks of a cluster. a()
/// to number() give the layout of shared memory, as byte offsets from an address that is a multiple of 1024.
/// On an H100, 256 columns with three stages are as fast in backward and 1 % slower in forward; clusters of
/// one block are 3 to 6 % slower.
template <Pass pass_>
struct Tiling {
  static constexpr Pass pass = pass_;
  static constexpr int columns = 192, stages = 4, cluster = 2;
  static constexpr int tiles = 4;  // slots of the ring of tile numbers
  // Arrivals that free a slot of the first block: the copying thread, three gating warps and eight
  // multiplying warps of each block.
  static constexpr int tile_readers = cluster * (1 + 3 + 2 * warpgroup / 32);
  static constexpr int gates = pass == Pass::forward ? columns / 2 : columns;

  static constexpr int a_bytes = tile_rows * row_bytes;
  static constexpr int b_bytes = columns * row_bytes;
  static constexpr int stage_bytes = a_bytes + b_bytes;
  static constexpr int half_bytes = half_rows * columns * 2;  // results of half a tile, bf16
  static constexpr int results = stages * stage_bytes;
  static constexpr int barriers = results + 2 * half_bytes;
  static constexpr int numbers = barriers + (2 * stages + 4 + 2 * tiles) * 8;
  static constexpr int bytes = 1024 + numbers + tiles * 4;
  static_assert(bytes <= 227 << 10);

  // Barriers: full and empty of each stage; ready (results stored) and taken (results read) of each half
  // tile; published and read of each tile number.
  __device__ static int a(int stage) { return stage * stage_bytes; }
  __device__ static int b(int stage) { return stage * stage_bytes + a_bytes; }
  __device__ static int full(int stage) { return barriers + stage * 8; }
  __device__ static int empty(int stage) { return barriers + (stages + stage) * 8; }
  __device__ static int ready(int half) { return barriers + (2 * stages + half) * 8; }
  __device__ static int taken(int half) { return barriers + (2 * stages + 2 + half) * 8; }
  __device__ static int published(int tile) { return barriers + (2 * stages + 4 + tile) * 8; }
  __device__ static int read(int tile) { return barriers + (2 * stages + 4 + tiles + tile) * 8; }
  __device__ static int number(int tile) { return numbers + tile * 4; }
};

/// A position in a ring of `size` barriers and the parity of the phase to wait for.
template <int size>
struct Ring {
  int at = 0;
  std::uint32_t parity = 0;
  __device__ void advance() {
    if (++at == size) at = 0, parity ^= 1;
  }
};

/// The order of the tiles, counted per cluster: within a group of rows of tiles, column by column. Tiles that
/// are processed at the same time then share operands, and the group's rows of A stay in L2.
struct Order {
  static constexpr int group = 8;
  int rows, columns;

  __host__ __device__ int count() const { return rows * columns; }
  struct Place {
    int row, column;
  };
  __device__ Place place(int i) const {
    const int first = i / (group * columns) * group, height = min(group, rows - first);
    const int rest = i - first * columns;
    return {first + rest % height, rest / height};
  }
};

/// Calls f(row, column) for each of this block's tiles, with the tile's first row and first gate column. All
/// threads of the mask `lanes` of a warp must call it.
template <class T, unsigned lanes = full_warp, class F>
__device__ __forceinline__ void for_each_tile(std::uint32_t shared, const Order& order, F f) {
  const int rank = blockIdx.x % T::cluster;
  for (Ring<T::tiles> ring;; ring.advance()) {
    barrier_wait(shared + T::published(ring.at), ring.parity);
    const int i = load_shared_int(shared + T::number(ring.at));
    __syncwarp(lanes);
    if (threadIdx.x % 32 == 0) barrier_arrive(shared + T::read(ring.at), 0);
    if (i >= order.count()) return;
    const Order::Place at = order.place(i);
    f((at.row * T::cluster + rank) * tile_rows, at.column * T::gates);
  }
}

/// Assigns tiles to clusters dynamically, because some clusters may start late while other kernels occupy
/// their multiprocessors. A cluster's first block draws the number of the next tile from a global counter one
/// tile in advance, so that no thread waits for the atomic operation, and sends it to all blocks of the
/// cluster. The counter `drawn` is 0 at the start of the kernel and is reset after the last draw.
template <class T>
class TileScheduler {
 public:
  __device__ TileScheduler(std::uint32_t shared, const Order& order, int* drawn)
      : shared_(shared), drawn_(drawn), last_(order.count() + 2 * int(gridDim.x / T::cluster) - 1) {
    if (leads_) coming_ = atomicAdd(drawn_, 1);
    publish();
  }
  __device__ ~TileScheduler() {
    if (leads_) reset_after(coming_);
  }

  /// Sends the next tile number to the cluster. All blocks of the cluster call this once at the start and
  /// once for each tile.
  __device__ void publish() {
    barrier_expect(shared_ + T::published(ring_.at), 4);
    if (leads_) {
      barrier_wait(shared_ + T::read(ring_.at), ring_.parity ^ 1);
      reset_after(coming_);
      for (int rank = 0; rank < T::cluster; ++rank)
        store_async(shared_ + T::number(ring_.at), coming_, shared_ + T::published(ring_.at), rank);
      coming_ = atomicAdd(drawn_, 1);
    }
    ring_.advance();
  }

 private:
  /// Resets the counter if this draw is the last one: each cluster draws two numbers past the last tile.
  __device__ void reset_after(int draw) {
    if (draw == last_) *drawn_ = 0;
  }

  std::uint32_t shared_;
  int* drawn_;
  int last_, coming_ = 0;
  bool leads_ = blockIdx.x % T::cluster == 0;
  Ring<T::tiles> ring_;
};

/// Eight elements of bf16.
struct Piece {
  __nv_bfloat162 at[4];
};

__device__ __forceinline__ Piece load_shared(std::uint32_t from) {
  const uint4 bits = load_shared_16(from);
  return reinterpret_cast<const Piece&>(bits);
}

// Accesses to data that is not read again soon: L2 evicts it first.
__device__ __forceinline__ Piece load_streaming(const __nv_bfloat16* from) {
  const uint4 bits = __ldcs(reinterpret_cast<const uint4*>(from));
  return reinterpret_cast<const Piece&>(bits);
}
__device__ __forceinline__ void store_streaming(__nv_bfloat16* to, const Piece& piece) {
  __stcs(reinterpret_cast<uint4*>(to), reinterpret_cast<const uint4&>(piece));
}
__device__ __forceinline__ void store(__nv_bfloat16* to, const Piece& piece) {
  *reinterpret_cast<uint4*>(to) = reinterpret_cast<const uint4&>(piece);
}

/// Copies operand tiles to the ring when a stage is free. One thread runs it. Each block of a cluster loads
/// its own A and its share of B, which it multicasts to all blocks. In forward, one block's share is the
/// tile's gate rows of the weight and the other's its up rows. In backward, it is half of the 64 rows of
/// every panel of 64 columns.
template <class T>
__device__ __forceinline__ void load_tiles(std::uint32_t shared, const CUtensorMap& a, const CUtensorMap& b,
                                           const Order& order, int depth, int* drawn) {
  constexpr unsigned all = (1U << T::cluster) - 1;
  const int rank = blockIdx.x % T::cluster;
  Ring<T::stages> ring;
  TileScheduler<T> scheduler(shared, order, drawn);
  for_each_tile<T, 1>(shared, order, [&](int row, int column) {
    scheduler.publish();
    for (int k = 0; k < depth; k += tile_depth, ring.advance()) {
      const std::uint32_t full = shared + T::full(ring.at), to = shared + T::b(ring.at);
      barrier_wait(shared + T::empty(ring.at), ring.parity ^ 1);
      barrier_expect(full, T::stage_bytes);
      copy_box(shared + T::a(ring.at), a, full, k, row, 0);
      if constexpr (T::pass == Pass::forward) {
#pragma unroll
        for (int half = rank; half < 2; half += T::cluster)
          copy_box<all>(to + half * (T::b_bytes / 2), b, full, k, column, half);
      } else {
        constexpr int rows = tile_depth / T::cluster;
#pragma unroll
        for (int panel = 0; panel < T::columns / 64; ++panel)
          copy_box<all>(to + (panel * tile_depth + rank * rows) * row_bytes, b, full, column + 64 * panel,
                        k + rank * rows, 0);
      }
    }
  });
}

/// Computes half a tile of the product, [64 × columns], and stores it in shared memory as rows of bf16. One
/// warpgroup runs it. The 16-byte pieces of a row are permuted by the row's number against bank conflicts.
template <class T>
__device__ __forceinline__ void multiply(std::uint32_t shared, int half, const Order& order, int depth) {
  constexpr bool b_rows = T::pass == Pass::backward;
  const int lane = threadIdx.x % 32, row = threadIdx.x % warpgroup / 32 * 16 + lane % 16;
  const std::uint32_t to = shared + T::results + half * T::half_bytes + row * T::columns * 2;
  const int permutation = (lane / 16 ^ row % 8) * 16;

  const auto describe = [](std::uint32_t address, int leading) {
    return matrix_descriptor<Swizzle::rows_128, band_bytes>(matrix_place(address), leading);
  };
  float d[T::columns / 2];
  Ring<T::stages> ring;
  std::uint32_t taken_parity = 1;
  for_each_tile<T>(shared, order, [&](int, int) {
    pin(d);
    for (int k = 0; k < depth; k += tile_depth, ring.advance()) {
      const std::uint32_t a = shared + T::a(ring.at) + half * half_rows * row_bytes;
      const std::uint32_t b = shared + T::b(ring.at);
      barrier_wait(shared + T::full(ring.at), ring.parity);
      wgmma_begin();
#pragma unroll
      for (int step = 0; step < tile_depth / 16; ++step)
        WgmmaM64K16<T::columns>::template multiply<Major::k, b_rows ? Major::mn : Major::k>(
            d, describe(a + step * 32, 16),
            b_rows ? describe(b + step * 16 * row_bytes, tile_depth * row_bytes)
                   : describe(b + step * 32, 16),
            k > 0 || step > 0);
      wgmma_commit();
      wgmma_wait<0>();
      if (lane < T::cluster) barrier_arrive(shared + T::empty(ring.at), lane);
    }
    pin(d);

    barrier_wait(shared + T::taken(half), taken_parity);
    taken_parity ^= 1;
#pragma unroll
    for (int i = 0; i < T::columns / 2; i += 8) {
      std::uint32_t bits[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(d[i + 2 * j], d[i + 2 * j + 1]);
        bits[j] = reinterpret_cast<const std::uint32_t&>(pair);
      }
      store_matrices(to + (i * 4 ^ permutation), bits);
    }
    barrier_arrive(shared + T::ready(half));
  });
}

/// Eight neighbouring gates of half a tile, which a gating thread processes in its i-th turn.
template <class T>
struct Turn {
  static constexpr int pieces = T::gates / 8;  // 16-byte pieces per row
  static constexpr int count = (half_rows * pieces + gate_threads - 1) / gate_threads;

  int half_row, row, column;  // row within the half tile, row of the matrix, column of F
  __device__ Turn(int i, int first_row, int first_column) {
    const unsigned at = threadIdx.x - 32 + unsigned(i) * gate_threads;
    half_row = int(at / pieces);
    row = first_row + half_row;
    column = first_column + int(at % pieces) * 8;
  }
  __device__ bool inside(const Problem& p) const { return half_row < half_rows && row < p.n && column < p.f; }
  /// Loads the results of these columns, or of the columns `after` elements to the right, from shared memory.
  __device__ Piece load(std::uint32_t results, int first_column, int after = 0) const {
    const int piece = int(unsigned(column - first_column + after) / 8);
    return load_shared(results + half_row * T::columns * 2 + (piece ^ (half_row & 7)) * 16);
  }
  /// Offset of these elements in a matrix of width · F columns.
  __device__ std::int64_t place(const Problem& p, int width) const {
    return std::int64_t(row) * width * p.f + column;
  }
};

/// gated = silu(gate) · up, computed from gate and up as rounded to bf16. Three warps run it; it also stores
/// gate and up.
template <class T>
__device__ __forceinline__ void gate_forward(std::uint32_t shared, const Order& order, const Problem& p) {
  std::uint32_t parity = 0;
  for_each_tile<T>(shared, order, [&](int row, int column) {
#pragma unroll 1
    for (int half = 0; half < 2; ++half, row += half_rows) {
      const std::uint32_t results = shared + T::results + half * T::half_bytes;
      barrier_wait(shared + T::ready(half), parity);
#pragma unroll 4
      for (int i = 0; i < Turn<T>::count; ++i) {
        const Turn<T> turn(i, row, column);
        if (!turn.inside(p)) continue;
        const Piece gate = turn.load(results, column), up = turn.load(results, column, T::gates);
        Piece gated;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float2 g = __bfloat1622float2(gate.at[j]), u = __bfloat1622float2(up.at[j]);
          gated.at[j] = __floats2bfloat162_rn(Silu(g.x).value * u.x, Silu(g.y).value * u.y);
        }
        store_streaming(p.out + turn.place(p, 2), gate);
        store_streaming(p.out + turn.place(p, 2) + p.f, up);
        store(p.gated + turn.place(p, 1), gated);
      }
      barrier_arrive(shared + T::taken(half));
    }
    parity ^= 1;
  });
}

/// The gates and ups that a thread needs in its next `turns` turns (Turn). They are loaded before the
/// product's results are ready.
template <class T>
struct Ahead {
  static constexpr int turns = 4;
  Piece gate[turns], up[turns];

  __device__ __forceinline__ void load(int first, int row, int column, const Problem& p) {
#pragma unroll
    for (int i = 0; i < turns; ++i) {
      const Turn<T> turn(first + i, row, column);
      if (!turn.inside(p)) continue;
      gate[i] = load_streaming(p.gate_up + turn.place(p, 2));
      up[i] = load_streaming(p.gate_up + turn.place(p, 2) + p.f);
    }
  }

  /// Computes the gradient of gate_up from the product's results, which are dgated, and stores it. It may
  /// overwrite gate_up, which this object has already loaded.
  __device__ __forceinline__ void use(int first, int row, int column, const Problem& p,
                                      std::uint32_t results) const {
#pragma unroll
    for (int i = 0; i < turns; ++i) {
      const Turn<T> turn(first + i, row, column);
      if (!turn.inside(p)) continue;
      const Piece dgated = turn.load(results, column);
      Piece dgate, dup, gated;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float2 d = __bfloat1622float2(dgated.at[j]), g = __bfloat1622float2(gate[i].at[j]),
                     u = __bfloat1622float2(up[i].at[j]);
        const Silu x(g.x), y(g.y);
        // gated = silu(gate) · up
        dgate.at[j] = __floats2bfloat162_rn(d.x * u.x * x.derivative(), d.y * u.y * y.derivative());
        dup.at[j] = __floats2bfloat162_rn(d.x * x.value, d.y * y.value);
        gated.at[j] = __floats2bfloat162_rn(x.value * u.x, y.value * u.y);
      }
      store_streaming(p.out + turn.place(p, 2), dgate);
      store_streaming(p.out + turn.place(p, 2) + p.f, dup);
      if (p.gated != nullptr) store_streaming(p.gated + turn.place(p, 1), gated);
    }
  }
};

/// dgate_up from dgated, gate and up; with p.gated also forward's output again. Three warps run it. Two sets
/// of turns alternate, so that the next gates and ups are loaded while the current ones are used.
template <class T>
__device__ __forceinline__ void gate_backward(std::uint32_t shared, const Order& order, const Problem& p) {
  constexpr int turns = Ahead<T>::turns;
  std::uint32_t parity = 0;
  for_each_tile<T>(shared, order, [&](int row, int column) {
#pragma unroll 1
    for (int half = 0; half < 2; ++half, row += half_rows) {
      const std::uint32_t results = shared + T::results + half * T::half_bytes;
      Ahead<T> even, odd;
      even.load(0, row, column, p);
      barrier_wait(shared + T::ready(half), parity);
#pragma unroll 1
      for (int i = 0; i < Turn<T>::count; i += 2 * turns) {
        odd.load(i + turns, row, column, p);
        even.use(i, row, column, p, results);
        even.load(i + 2 * turns, row, column, p);
        odd.use(i + turns, row, column, p, results);
      }
      barrier_arrive(shared + T::taken(half));
    }
    parity ^= 1;
  });
}

/// Forward: [gate up] = x Wᵀ, gated = silu(gate) · up. Backward: dgated = dout W, which is not stored in
/// global memory, and dgate_up from it (swiglu.h).
///
/// Blocks are persistent: TileScheduler assigns tiles [128 × columns] of the product to them. In forward,
/// half of a tile's columns are gates and the other half the corresponding ups. One warp copies operands of
/// depth 64 into a ring of stages in shared memory, two warpgroups multiply 64 rows each, and three warps
/// apply the gate to the finished tile, which is in shared memory as bf16, while the next tile is multiplied.
/// Reads and writes of the large matrices therefore overlap with the tensor cores. The blocks of a cluster
/// process tiles of adjacent rows and share B. A multiplying thread holds columns / 2 sums. Shared memory:
/// the ring, the results of a tile, the barriers.
template <class T>
__global__ void __launch_bounds__(block_threads, 1) __cluster_dims__(T::cluster, 1, 1)
    kernel(const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b, Order order,
           Problem p, int* drawn) {
  extern __shared__ unsigned char memory[];
  const std::uint32_t shared = (shared_address(memory) + 1023) / 1024 * 1024;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < T::stages; ++stage) {
      barrier_init(shared + T::full(stage), 1);
      barrier_init(shared + T::empty(stage), T::cluster * 2 * warpgroup / 32);
    }
    for (int half = 0; half < 2; ++half) {
      barrier_init(shared + T::ready(half), warpgroup);
      barrier_init(shared + T::taken(half), gate_threads);
    }
    for (int tile = 0; tile < T::tiles; ++tile) {
      barrier_init(shared + T::published(tile), 1);
      barrier_init(shared + T::read(tile), T::tile_readers);
    }
    barrier_init_done();
  }
  cluster_barrier();

  const int warp = __shfl_sync(full_warp, threadIdx.x / 32, 0);
  if (warp >= warpgroup / 32) {
    multiply<T>(shared, warp / 4 - 1, order, p.c);
  } else if (warp > 0) {
    if constexpr (T::pass == Pass::forward)
      gate_forward<T>(shared, order, p);
    else
      gate_backward<T>(shared, order, p);
  } else if (threadIdx.x == 0) {
    load_tiles<T>(shared, a, b, order, p.c, drawn);
  }
  __syncwarp();
  cluster_barrier();  // no block exits while others copy to its shared memory or arrive at its barriers
}

/// Returns the tensor map of a matrix [slabs, rows, inner]. A copied box has 64 columns and box_rows rows.
CUtensorMap boxes(const __nv_bfloat16* matrix, std::int64_t inner, std::int64_t rows, std::int64_t slabs,
                  int box_rows) {
  static const auto encode = driver_function<PFN_cuTensorMapEncodeTiled_v12000>("cuTensorMapEncodeTiled");
  const std::uint64_t row_stride = static_cast<std::uint64_t>(inner) * 2;
  const std::uint64_t sizes[3]{static_cast<std::uint64_t>(inner), static_cast<std::uint64_t>(rows),
                               static_cast<std::uint64_t>(slabs)};
  const std::uint64_t strides[2]{row_stride, row_stride * static_cast<std::uint64_t>(rows)};
  const std::uint32_t box[3]{64, static_cast<std::uint32_t>(box_rows), 1}, steps[3]{1, 1, 1};
  CUtensorMap map;
  if (encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<__nv_bfloat16*>(matrix), sizes, strides,
             box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) != CUDA_SUCCESS)
    check(cudaErrorInvalidValue, "cuTensorMapEncodeTiled");
  return map;
}

template <Pass pass>
void launch(Context& context, const Problem& p) {
  using T = Tiling<pass>;
  if (p.n == 0 || p.f == 0) return;
  const CUtensorMap a = boxes(p.a, p.c, p.n, 1, tile_rows);
  const CUtensorMap b = T::pass == Pass::forward ? boxes(p.weight, p.c, p.f, 2, T::gates)
                                                 : boxes(p.weight, p.f, p.c, 1, tile_depth / T::cluster);
  const Order order{.rows = (p.n + T::cluster * tile_rows - 1) / (T::cluster * tile_rows),
                    .columns = (p.f + T::gates - 1) / T::gates};
  allow_shared_memory<kernel<T>>(T::bytes, "linear_swiglu");
  const int blocks = std::min(context.multiprocessors() / T::cluster, order.count()) * T::cluster;
  kernel<T><<<static_cast<unsigned>(blocks), block_threads, T::bytes, context.stream()>>>(a, b, order, p,
                                                                                          context.counter());
  check_launch("linear_swiglu");
}

}  // namespace

void forward_bf16(Context& context, const Problem& p) {
  launch<Pass::forward>(context, p);
}

void backward_bf16(Context& context, const Problem& p) {
  launch<Pass::backward>(context, p);
}

}  // namespace foretoken::cuda::linear_swiglu
