#pragma once
// Memory planned once, in few large blocks (of huge pages where the system has them): every buffer of a run
// is taken from an arena before the first step, then the arena is sealed, and a step allocates nothing.

#include <cstddef>
#include <memory>
#include <vector>

#include "runtime/tensor.h"

namespace foretoken {

class Arena {
 public:
  explicit Arena(DeviceKind device) : device_(device) {}

  /// A zeroed tensor, aligned to 64 bytes, that lives as long as the arena. A DefectError after seal().
  Tensor tensor(DType dtype, const Shape& shape);
  void seal() { sealed_ = true; }

  DeviceKind device() const { return device_; }
  /// What the tensors hold.
  std::size_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  DeviceKind device_;
  bool sealed_ = false;
  std::size_t bytes_ = 0;
  std::size_t block_left_ = 0;  // free bytes at the end of the newest block
  std::byte* next_ = nullptr;
  std::vector<std::unique_ptr<std::byte[], Free>> blocks_;
};

}  // namespace foretoken
