#pragma once
// Copies of tensors on the host, taken quickly so that what made them can go on.

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

  /// Makes room for copies of all these tensors; the room is kept, and what it held is gone. Where one lies
  /// on a GPU the room is page-locked, which takes about a second for a few GiB: call it before it matters.
  void reserve(const std::vector<Tensor>& tensors);
  /// Replaces each tensor by its copy; returns when all are taken. Nothing may write to them meanwhile. Makes
  /// room where there is too little.
  void take(std::vector<Tensor>& tensors);

 private:
  struct Room;
  std::unique_ptr<Room> room_;
};

}  // namespace foretoken
