#pragma once
// Allocates all memory of a run before the first step, in a few large blocks (with huge pages where the
// system supports them). The arena is then sealed: a step allocates nothing.

#include <cstddef>
#include <memory>
#include <vector>

#include "runtime/tensor.h"

namespace foretoken {

class Arena {
 public:
  /// `page_locked` is for host memory: a GPU copies to and from page-locked memory without help from the CPU.
  explicit Arena(DeviceKind device, bool page_locked = false) : device_(device), page_locked_(page_locked) {}

  /// An arena that only counts the bytes of its tensors, which must not be read or written. For computing the
  /// memory that a plan needs.
  static Arena plan_only(DeviceKind device) {
    Arena arena(device);
    arena.plan_only_ = true;
    return arena;
  }
  bool is_plan_only() const { return plan_only_; }

  /// Returns a zeroed tensor, aligned to 256 bytes, that is valid while the arena exists. Throws DefectError
  /// after seal(), and UsageError if the device or the machine (runtime/host/memory_limit.h) has too little
  /// memory.
  Tensor tensor(DType dtype, const Shape& shape);
  void seal() { sealed_ = true; }

  DeviceKind device() const { return device_; }
  /// Total size of the tensors, without alignment padding.
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
  bool plan_only_ = false;
  bool sealed_ = false;
  std::size_t bytes_ = 0;
  std::size_t block_left_ = 0;  // free bytes at the end of the newest block
  std::byte* next_ = nullptr;
  std::vector<std::unique_ptr<std::byte, Free>> blocks_;
};

}  // namespace foretoken
