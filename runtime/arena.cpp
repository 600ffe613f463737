#include "runtime/arena.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

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

std::byte* Arena::add_block(std::size_t bytes) {
  // An address that no tensor of another block has.
  if (counts_only_) return reinterpret_cast<std::byte*>(line + std::exchange(allocated_, allocated_ + bytes));
  std::byte* memory = allocate(bytes);
  blocks_.emplace_back(memory, Free{device_, page_locked_});
  allocated_ += bytes;
  return memory;
}

Tensor Arena::tensor(DType dtype, const Shape& shape, MemoryKind kind) {
  if (sealed_) throw DefectError("arena: tensor {} requested after seal()", to_string(shape));
  const std::size_t held = static_cast<std::size_t>(shape.elements()) * size_of(dtype);
  const std::size_t bytes = round_up(std::max<std::size_t>(1, held), line);
  std::byte* memory = nullptr;
  if (bytes > block / 4) {  // a separate block, so that the newest block's free bytes stay available
    memory = add_block(round_up(bytes, huge_page));
  } else {
    if (bytes > block_left_) {
      next_ = add_block(block);
      block_left_ = block;
    }
    memory = next_;
    next_ += bytes;
    block_left_ -= bytes;
  }
  use_[kind] += held;
  const Tensor tensor{memory, dtype, device_, shape};
  if (counts_only_) return tensor;
#if FORETOKEN_WITH_CUDA
  if (device_ == DeviceKind::cuda) {
    cuda::zero_device(memory, bytes);
    return tensor;
  }
#endif
  std::memset(memory, 0, bytes);
  return tensor;
}

}  // namespace foretoken
