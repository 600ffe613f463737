#include "runtime/arena.h"

#include <cstring>
#include <new>

namespace foretoken {

namespace {
constexpr std::align_val_t alignment{64};
}

void Arena::Free::operator()(std::byte* memory) const {
  ::operator delete[](memory, alignment);
}

Tensor Arena::tensor(DType dtype, const Shape& shape) {
  if (sealed_)
    throw DefectError("arena: a tensor {} was asked for after the plan was sealed", to_string(shape));
  const std::size_t bytes =
      std::max<std::size_t>(64, static_cast<std::size_t>(shape.elements()) * size_of(dtype));
  auto* memory = static_cast<std::byte*>(::operator new[](bytes, alignment));
  blocks_.emplace_back(memory);
  std::memset(memory, 0, bytes);
  bytes_ += bytes;
  return {memory, dtype, device_, shape};
}

}  // namespace foretoken
