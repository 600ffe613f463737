#pragma once
// Instructions without a C++ intrinsic, most of them new in Hopper, one function each: asynchronous copies,
// the barriers that signal their completion, and the tensor-core products of a warpgroup (PTX ISA,
// "Asynchronous Warpgroup Level Matrix Instructions", "mbarrier", "cp.async.bulk.tensor"). Addresses of type
// std::uint32_t are in the shared state space.

#include <cstdint>

#include <cuda.h>
#include <cuda_bf16.h>

namespace foretoken::cuda {

__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

/// 2ˣ by the special-function unit; 0 for −∞.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Starts a copy of 16 bytes from global to shared memory, or of zeros if not `filled`.
__device__ __forceinline__ void copy_16_async(std::uint32_t to, const void* from, bool filled) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(filled ? 16 : 0)
               : "memory");
}

/// Starts a copy of 4 bytes from global to shared memory, or of zeros if not `filled`.
__device__ __forceinline__ void copy_4_async(std::uint32_t to, const void* from, bool filled) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(filled ? 4 : 0)
               : "memory");
}

/// Makes a group of the copies that this thread has started since its last call.
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits until all but the last `pending` groups of this thread's copies have completed.
template <int pending>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

/// Makes this thread's stores visible to the tensor cores. A barrier must follow before products of other
/// threads read them.
__device__ __forceinline__ void fence_async_proxy() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// Waits until this thread's copies have completed and makes them and this thread's stores visible to the
/// tensor cores, which read shared memory through another proxy. A block barrier must follow before a thread
/// reads the copies of other threads.
__device__ __forceinline__ void finish_copies() {
  asm volatile("cp.async.wait_all;" ::: "memory");
  fence_async_proxy();
}

__device__ __forceinline__ uint4 load_shared_16(std::uint32_t from) {
  uint4 x;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
               : "r"(from)
               : "memory");
  return x;
}

__device__ __forceinline__ void store_shared_4(std::uint32_t to, std::uint32_t x) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(to), "r"(x) : "memory");
}

/// Stores four matrices [8 × 8] of bf16 from registers a[0] to a[3] to shared memory: lane 4g + t holds
/// columns 2t and 2t + 1 of row g, as after a product. Lane 8i + r passes the address of row r of matrix i.
__device__ __forceinline__ void store_matrices(std::uint32_t to, const std::uint32_t* a) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(a[0]),
               "r"(a[1]), "r"(a[2]), "r"(a[3])
               : "memory");
}

/// Adds four floats to global memory atomically, in no fixed order.
__device__ __forceinline__ void add_4(float* to, float a, float b, float c, float d) {
  asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(a), "f"(b), "f"(c), "f"(d)
               : "memory");
}

// A barrier (mbarrier) is eight bytes of shared memory. Its phase completes when as many threads have arrived
// as barrier_init() set and all expected bytes have been copied; then the next phase starts. The parity of
// successive phases is 0, 1, 0 and so on.

__device__ __forceinline__ void barrier_init(std::uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

/// Makes initialized barriers visible to copies and to the cluster; a block or cluster barrier must follow.
__device__ __forceinline__ void barrier_init_done() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void barrier_arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// Arrives at the barrier at the same shared address in block `rank` of the cluster, which may be this block.
__device__ __forceinline__ void barrier_arrive(std::uint32_t barrier, int rank) {
  asm volatile(
      "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n}\n" ::"r"(barrier),
      "r"(rank)
      : "memory");
}

/// Arrives, and adds `bytes` to the bytes that the phase expects from copies.
__device__ __forceinline__ void barrier_expect(std::uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

/// Waits until the phase with this parity completes. A wait for parity 1 on a new barrier returns
/// immediately.
__device__ __forceinline__ void barrier_wait(std::uint32_t barrier, std::uint32_t parity) {
  asm volatile(
      "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

/// Synchronizes `threads` threads of a block at hardware barrier `number`; __syncthreads() uses barrier 0.
__device__ __forceinline__ void named_barrier(int number, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

/// Synchronizes all threads of the cluster.
__device__ __forceinline__ void cluster_barrier() {
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

/// Synchronizes all threads of the cluster without ordering memory: stores before it need not be visible
/// after it. For the end of a kernel, when other blocks may still read this block's shared memory.
__device__ __forceinline__ void cluster_barrier_relaxed() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

/// Stores `value` asynchronously at address `to` in block `rank` of the cluster, which may be this block, and
/// counts four bytes at the same barrier of that block.
__device__ __forceinline__ void store_async(std::uint32_t to, int value, std::uint32_t barrier, int rank) {
  asm volatile(
      "{\n.reg .b32 place, there;\nmapa.shared::cluster.u32 place, %0, %3;\n"
      "mapa.shared::cluster.u32 there, %2, %3;\n"
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.s32 [place], %1, [there];\n}\n" ::"r"(to),
      "r"(value), "r"(barrier), "r"(rank)
      : "memory");
}

__device__ __forceinline__ int load_shared_int(std::uint32_t from) {
  int value;
  asm volatile("ld.shared.s32 %0, [%1];" : "=r"(value) : "r"(from) : "memory");
  return value;
}

/// Starts a copy (TMA) of the tensor map's box at (x, y, z) to shared memory, with zeros where the box
/// extends past the tensor, and counts its bytes at the barrier. One thread calls it. `blocks` is a mask:
/// with several bits, the copy goes to the same address, and counts at the same barrier, in each of these
/// blocks of the cluster.
template <unsigned blocks = 1>
__device__ __forceinline__ void copy_box(std::uint32_t to, const CUtensorMap& map, std::uint32_t barrier,
                                         int x, int y, int z) {
  if constexpr (blocks == 1)
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
        "l"(&map), "r"(barrier), "r"(x), "r"(y), "r"(z)
        : "memory");
  else
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
        " [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(to),
        "l"(&map), "r"(barrier), "r"(x), "r"(y), "r"(z), "h"(static_cast<std::uint16_t>(blocks))
        : "memory");
}

/// Keeps the compiler from moving uses of these registers across this line. Needed around wgmma, which reads
/// and writes registers asynchronously although the compiler treats it as a synchronous instruction.
template <int count>
__device__ __forceinline__ void pin(float (&registers)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+f"(registers[i])::"memory");
}
template <int count>
__device__ __forceinline__ void pin(std::uint32_t (&registers)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+r"(registers[i])::"memory");
}

/// Required before the first wgmma after other instructions wrote its registers.
__device__ __forceinline__ void wgmma_begin() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/// Layout of an operand's 16-byte pieces in shared memory. none: contiguous matrices of 8 rows by 16 bytes.
/// rows_128: rows of 128 bytes, with piece i of row r at position i ^ (r % 8). rows_64: rows of 64 bytes,
/// with piece i of row r at position i ^ (r / 2 % 4).
enum class Swizzle : std::uint32_t { none, rows_128, rows_64 };

/// Returns the descriptor of an operand that begins at byte 16 · `place` of the block's shared memory (PTX
/// ISA, "Matrix Descriptor Format"). `stride` is the distance in bytes between groups of 8 rows. `leading` is
/// the distance in bytes between matrices adjacent in depth or, for a swizzled operand of several panels,
/// between panels.
template <Swizzle swizzle, int stride>
__device__ __forceinline__ std::uint64_t matrix_descriptor(std::uint32_t place, int leading) {
  constexpr std::uint32_t high = stride / 16 | static_cast<std::uint32_t>(swizzle) << 30;
  return std::uint64_t(high) << 32 | (place + (leading / 16 << 16));
}

/// Converts a shared address to `place` of matrix_descriptor(). The lower 18 bits are the position in the
/// block's memory; in a cluster, the bits above are the block's rank.
__device__ __forceinline__ std::uint32_t matrix_place(std::uint32_t address) {
  return address % (1U << 18) / 16;
}

/// Commits the products issued so far as one group.
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/// Waits until at most `pending` groups are unfinished.
template <int pending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

/// The same, but only after x has been computed. ptxas may move a wait ahead of arithmetic that precedes it,
/// but not ahead of a store, so this stores x. `scratch` is four bytes of shared memory that no thread reads.
template <int pending>
__device__ __forceinline__ void wgmma_wait_after(float x, std::uint32_t scratch) {
  asm volatile("st.volatile.shared.f32 [%0], %1;" ::"r"(scratch), "f"(x) : "memory");
  wgmma_wait<pending>();
}

/// The dimension of an operand that is contiguous in shared memory. k: the depth. mn: the rows of A or the
/// columns of B. (CUTLASS: K-major and MN-major.)
enum class Major { k, mn };

/// The instruction wgmma.m64n{N}k16, which one warpgroup issues together and which runs asynchronously: D [64
/// × N] = A [64 × 16] · B [16 × N], or D += … if `accumulate`, in bf16 with f32 sums. B is in shared memory,
/// A in shared memory or in registers. Thread `lane` of warp w holds d[i] = D[16w + lane/4 + 8·(i/2 mod
/// 2)][8·(i/4) + 2·(lane mod 4) + i mod 2]. Specialized for each N in use:
///
///   template <Major a_major, Major b_major>
///   static void multiply(float (&d)[N / 2], std::uint64_t a, std::uint64_t b, bool accumulate);
///   template <Major b_major>
///   static void multiply(float (&d)[N / 2], const std::uint32_t* a, std::uint64_t b, bool accumulate);
template <int N>
struct WgmmaM64K16;

#define FORETOKEN_REGISTERS_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define FORETOKEN_REGISTERS_32 \
  FORETOKEN_REGISTERS_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define FORETOKEN_REGISTERS_48 \
  FORETOKEN_REGISTERS_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define FORETOKEN_REGISTERS_64 \
  FORETOKEN_REGISTERS_48 ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define FORETOKEN_REGISTERS_80 \
  FORETOKEN_REGISTERS_64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define FORETOKEN_REGISTERS_96 \
  FORETOKEN_REGISTERS_80 ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define FORETOKEN_D_8(i)                                                                      \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define FORETOKEN_D_16 FORETOKEN_D_8(0), FORETOKEN_D_8(8)
#define FORETOKEN_D_32 FORETOKEN_D_16, FORETOKEN_D_8(16), FORETOKEN_D_8(24)
#define FORETOKEN_D_48 FORETOKEN_D_32, FORETOKEN_D_8(32), FORETOKEN_D_8(40)
#define FORETOKEN_D_64 FORETOKEN_D_48, FORETOKEN_D_8(48), FORETOKEN_D_8(56)
#define FORETOKEN_D_96 \
  FORETOKEN_D_64, FORETOKEN_D_8(64), FORETOKEN_D_8(72), FORETOKEN_D_8(80), FORETOKEN_D_8(88)

// An asm statement numbers its operands in order: first the count = N / 2 registers of d, then the others. A
// macro's parameters at_… are the numbers of these other operands.
#define FORETOKEN_WGMMA_SHARED(n, count, at_a, at_b, at_accumulate, at_b_major, at_a_major)               \
  template <Major a_major, Major b_major>                                                                 \
  static __device__ __forceinline__ void multiply(float(&d)[count], std::uint64_t a, std::uint64_t b,     \
                                                  bool accumulate) {                                      \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #at_accumulate                                      \
                 ", 0;\n"                                                                                 \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" FORETOKEN_REGISTERS_##count \
                 "}, %" #at_a ", %" #at_b ", p, 1, 1, %" #at_a_major ", %" #at_b_major ";\n}\n"           \
                 : FORETOKEN_D_##count                                                                    \
                 : "l"(a), "l"(b), "r"(int(accumulate)), "n"(int(b_major)), "n"(int(a_major)));           \
  }
#define FORETOKEN_WGMMA_REGISTERS(n, count, at_a0, at_a1, at_a2, at_a3, at_b, at_accumulate, at_b_major)     \
  template <Major b_major>                                                                                   \
  static __device__ __forceinline__ void multiply(float(&d)[count], const std::uint32_t* a, std::uint64_t b, \
                                                  bool accumulate) {                                         \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #at_accumulate                                         \
                 ", 0;\n"                                                                                    \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" FORETOKEN_REGISTERS_##count    \
                 "}, {%" #at_a0 ", %" #at_a1 ", %" #at_a2 ", %" #at_a3 "}, %" #at_b                          \
                 ", p, 1, 1, %" #at_b_major ";\n}\n"                                                         \
                 : FORETOKEN_D_##count                                                                       \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(int(accumulate)),                 \
                   "n"(int(b_major)));                                                                       \
  }
template <>
struct WgmmaM64K16<32> {
  FORETOKEN_WGMMA_SHARED(32, 16, 16, 17, 18, 19, 20)
  FORETOKEN_WGMMA_REGISTERS(32, 16, 16, 17, 18, 19, 20, 21, 22)
};
template <>
struct WgmmaM64K16<64> {
  FORETOKEN_WGMMA_SHARED(64, 32, 32, 33, 34, 35, 36)
  FORETOKEN_WGMMA_REGISTERS(64, 32, 32, 33, 34, 35, 36, 37, 38)
};
template <>
struct WgmmaM64K16<96> {
  FORETOKEN_WGMMA_SHARED(96, 48, 48, 49, 50, 51, 52)
  FORETOKEN_WGMMA_REGISTERS(96, 48, 48, 49, 50, 51, 52, 53, 54)
};
template <>
struct WgmmaM64K16<128> {
  FORETOKEN_WGMMA_SHARED(128, 64, 64, 65, 66, 67, 68)
  FORETOKEN_WGMMA_REGISTERS(128, 64, 64, 65, 66, 67, 68, 69, 70)
};
template <>
struct WgmmaM64K16<192> {
  FORETOKEN_WGMMA_SHARED(192, 96, 96, 97, 98, 99, 100)
  FORETOKEN_WGMMA_REGISTERS(192, 96, 96, 97, 98, 99, 100, 101, 102)
};
#undef FORETOKEN_WGMMA_REGISTERS
#undef FORETOKEN_WGMMA_SHARED
#undef FORETOKEN_D_96
#undef FORETOKEN_D_64
#undef FORETOKEN_D_48
#undef FORETOKEN_D_32
#undef FORETOKEN_D_16
#undef FORETOKEN_D_8
#undef FORETOKEN_REGISTERS_96
#undef FORETOKEN_REGISTERS_80
#undef FORETOKEN_REGISTERS_64
#undef FORETOKEN_REGISTERS_48
#undef FORETOKEN_REGISTERS_32
#undef FORETOKEN_REGISTERS_16

}  // namespace foretoken::cuda
