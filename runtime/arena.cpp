#include "runtime/arena.h"

#include <algorithm>
#include <cstring>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace foretoken {

namespace {

constexpr std::size_t line = 64;
constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t block = 8 * huge_page;

std::size_t round_up(std::size_t bytes, std::size_t to) {
  return (bytes + to - 1) / to * to;
}

}  // namespace

void Arena::Free::operator()(std::byte* memory) const {
  ::operator delete[](memory, std::align_val_t{huge_page});
}

Tensor Arena::tensor(DType dtype, const Shape& shape) {
  if (sealed_)
    throw DefectError("arena: a tensor {} was asked for after the plan was sealed", to_string(shape));
  const std::size_t held = static_cast<std::size_t>(shape.elements()) * size_of(dtype);
  const std::size_t bytes = round_up(std::max<std::size_t>(1, held), line);
  if (bytes > block_left_) {
    block_left_ = std::max(block, round_up(bytes, huge_page));
    next_ = static_cast<std::byte*>(::operator new[](block_left_, std::align_val_t{huge_page}));
    blocks_.emplace_back(next_);
#ifdef __linux__
    madvise(next_, block_left_, MADV_HUGEPAGE);  // an advice: where it is refused, small pages do
#endif
  }
  std::byte* memory = next_;
  next_ += bytes;
  block_left_ -= bytes;
  bytes_ += held;
  std::memset(memory, 0, bytes);
  return {memory, dtype, device_, shape};
}

}  // namespace foretoken
