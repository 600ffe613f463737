#pragma once
// Fast copies of tensors to host memory, so that the code that writes the tensors can continue.

#include <cstddef>
#include <memory>
#include <vector>

#include "runtime/tensor.h"

namespace foretoken {

class Staging {
 public:
  Staging();
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// Allocates memory for copies of all these tensors and keeps it; earlier contents are lost. If a tensor is
  /// on a GPU, the memory is page-locked, which takes about a second for a few GiB. Call it before training
  /// starts.
  void reserve(const std::vector<Tensor>& tensors);
  /// Replaces each tensor by its copy, and returns when all copies are complete. Nothing may write to the
  /// original tensors until then. Allocates memory if the reserved memory is too small.
  void take(std::vector<Tensor>& tensors);

 private:
  struct Room;
  std::unique_ptr<Room> room_;
};

}  // namespace foretoken
