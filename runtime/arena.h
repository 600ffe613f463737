#pragma once
// Allocates all memory of a run before the first step, in a few large blocks (with huge pages where the
// system supports them). The arena is then sealed: a step allocates nothing.
//
// A counting arena runs the same plans without a device and without memory, so that planned and allocated
// bytes are equal.

#include <cstddef>
#include <memory>
#include <vector>

#include "runtime/memory_use.h"
#include "runtime/tensor.h"

namespace foretoken {

class Arena {
 public:
  /// `page_locked` is for host memory: a GPU copies to and from page-locked memory without help from the CPU.
  explicit Arena(DeviceKind device, bool page_locked = false) : device_(device), page_locked_(page_locked) {}

  /// An arena that counts what it would allocate on such a device; the machine needs none. Its tensors have
  /// distinct addresses, but no memory: they must be neither read nor written.
  static Arena counting(DeviceKind device) {
    Arena arena(device);
    arena.counts_only_ = true;
    return arena;
  }
  bool counts_only() const { return counts_only_; }

  /// Returns a zeroed tensor, aligned to 256 bytes, that is valid while the arena exists. Throws DefectError
  /// after seal(), and UsageError if the device or the machine (runtime/host/memory_limit.h) has too little
  /// memory.
  Tensor tensor(DType dtype, const Shape& shape, MemoryKind kind = MemoryKind::activations);
  void seal() { sealed_ = true; }

  DeviceKind device() const { return device_; }
  /// Total size of the tensors by kind, without alignment padding.
  const MemoryUse& use() const { return use_; }
  /// Total size of the blocks, including padding and the free end of the newest block.
  std::size_t allocated() const { return allocated_; }

 private:
  struct Free {
    DeviceKind device;
    bool page_locked;
    void operator()(std::byte* memory) const;
  };
  /// Returns the start of a new block.
  std::byte* add_block(std::size_t bytes);
  std::byte* allocate(std::size_t bytes) const;

  DeviceKind device_;
  bool page_locked_;
  bool counts_only_ = false;
  bool sealed_ = false;
  MemoryUse use_;
  std::size_t allocated_ = 0;
  std::size_t block_left_ = 0;  // free bytes at the end of the newest block
  std::byte* next_ = nullptr;
  std::vector<std::unique_ptr<std::byte, Free>> blocks_;
};

}  // namespace foretoken
