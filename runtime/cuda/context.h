#pragma once
// One rank's GPU: its compute stream, and the workspace and library handles that operators use.

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <typeindex>

#include "runtime/cuda/handle.h"

namespace foretoken::cuda {

class Matmul;

/// Number of GPUs visible to this process; 0 without a driver.
int device_count();
/// "13.0"
std::string runtime_version();

class Context {
 public:
  struct Options {
    int device = 0;
    /// Every run of the same program on the same GPU model produces the same bits: algorithms are selected
    /// without timing, and kernels sum in a fixed order.
    bool deterministic = false;
  };
  /// Makes `device` this thread's current GPU.
  explicit Context(const Options& options);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  cudaStream_t stream() const { return stream_.get(); }
  int multiprocessors() const { return multiprocessors_; }
  bool deterministic() const { return options_.deterministic; }
  /// Example: "NVIDIA H100 80GB HBM3".
  const std::string& name() const { return name_; }
  /// "9.0"
  const std::string& compute_capability() const { return compute_capability_; }
  /// Address on the PCI bus: "0000:1b:00.0".
  std::string pci_address() const;

  /// Scratch memory of one operator: the next operator on the stream may use the same memory. Allocates only
  /// if `bytes` exceeds every earlier request.
  void* workspace(std::size_t bytes) { return workspace_.reserve(bytes); }

  /// A counter in device memory for kernels that count across their blocks. It is 0 between operators: a
  /// kernel that uses it resets it.
  int* counter() const { return static_cast<int*>(counter_.get()); }

  Matmul& matmul() { return *matmul_; }

  /// The object that an operator keeps with this GPU, such as a library's handle and plans. The first call
  /// makes it; the context destroys it. There is one object per type.
  template <class State>
  State& state() {
    std::shared_ptr<void>& state = states_[typeid(State)];
    if (!state) state = std::make_shared<State>(*this);
    return *static_cast<State*>(state.get());
  }

  void synchronize() const;
  /// Bytes of the GPU's memory that are in use, by all processes.
  static std::size_t memory_in_use();

 private:
  Options options_;
  std::string name_;
  std::string compute_capability_;
  int multiprocessors_ = 0;
  StreamHandle stream_;
  Buffer workspace_;
  Handle<void*, cudaFree> counter_;
  std::unique_ptr<Matmul> matmul_;
  std::map<std::type_index, std::shared_ptr<void>> states_;  // destroyed before the stream that they use
};

}  // namespace foretoken::cuda
