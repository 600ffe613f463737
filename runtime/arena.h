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
  /// `page_locked` host memory is what a GPU copies to and from without the host's help.
  explicit Arena(DeviceKind device, bool page_locked = false) : device_(device), page_locked_(page_locked) {}

  /// A zeroed tensor, aligned to 256 bytes, that lives as long as the arena. A DefectError after seal(), a
  /// UsageError where the device has no more memory, or the machine (runtime/memory_limit.h).
  Tensor tensor(DType dtype, const Shape& shape);
  void seal() { sealed_ = true; }

  DeviceKind device() const { return device_; }
  /// What the tensors hold.
  std::size_t bytes() const { return bytes_; }

 private:
  struct Free {
    DeviceKind device;
    bool page_locked;
    void operator()(std::byte* memory) const;
  };
  std::byte* allocate(std::size_t bytes) const;

  DeviceKind device_;
  bool page_locked_;
  bool sealed_ = false;
  std::size_t bytes_ = 0;
  std::size_t block_left_ = 0;  // free bytes at the end of the newest block
  std::byte* next_ = nullptr;
  std::vector<std::unique_ptr<std::byte, Free>> blocks_;
};

}  // namespace foretoken
