#include "runtime/arena.h"

#include <algorithm>
#include <cstring>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "runtime/error.h"
#include "runtime/host/memory_limit.h"
#if FORETOKEN_WITH_CUDA
#include "runtime/cuda/memory.h"
#endif

namespace foretoken {

namespace {

constexpr std::size_t line = 256;  // the alignment of cuBLAS's fastest kernels; a multiple of a cache line
constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t block = 8 * huge_page;

std::size_t round_up(std::size_t bytes, std::size_t to) {
  return (bytes + to - 1) / to * to;
}

}  // namespace

void Arena::Free::operator()(std::byte* memory) const {
#if FORETOKEN_WITH_CUDA
  if (device == DeviceKind::cuda) return cuda::free_device(memory);
  if (page_locked) return cuda::free_page_locked(memory);
#endif
  ::operator delete[](memory, std::align_val_t{huge_page});
}

std::byte* Arena::allocate(std::size_t bytes) const {
#if FORETOKEN_WITH_CUDA
  if (device_ == DeviceKind::cuda) return static_cast<std::byte*>(cuda::allocate_device(bytes));
  if (page_locked_) return static_cast<std::byte*>(cuda::allocate_page_locked(bytes));
#endif
  require_memory(static_cast<std::int64_t>(bytes), "memory plan");
  auto* memory = static_cast<std::byte*>(::operator new[](bytes, std::align_val_t{huge_page}));
#ifdef __linux__
  madvise(memory, bytes, MADV_HUGEPAGE);  // a hint: if the kernel refuses it, small pages work too
#endif
  return memory;
}

Tensor Arena::tensor(DType dtype, const Shape& shape) {
  if (sealed_) throw DefectError("arena: tensor {} requested after seal()", to_string(shape));
  const std::size_t held = static_cast<std::size_t>(shape.elements()) * size_of(dtype);
  const std::size_t bytes = round_up(std::max<std::size_t>(1, held), line);
  if (plan_only_) {  // the tensor must count as defined, so its address is not null; it is never read or
                     // written
    bytes_ += held;
    return {reinterpret_cast<std::byte*>(line), dtype, device_, shape};
  }
  std::byte* memory = nullptr;
  if (bytes > block / 4) {  // a separate block, so that the newest block's free bytes stay available
    memory = allocate(round_up(bytes, huge_page));
    blocks_.emplace_back(memory, Free{device_, page_locked_});
  } else {
    if (bytes > block_left_) {
      block_left_ = block;
      next_ = allocate(block);
      blocks_.emplace_back(next_, Free{device_, page_locked_});
    }
    memory = next_;
    next_ += bytes;
    block_left_ -= bytes;
  }
  bytes_ += held;
#if FORETOKEN_WITH_CUDA
  if (device_ == DeviceKind::cuda) {
    cuda::zero_device(memory, bytes);
    return {memory, dtype, device_, shape};
  }
#endif
  std::memset(memory, 0, bytes);
  return {memory, dtype, device_, shape};
}

}  // namespace foretoken
