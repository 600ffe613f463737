#pragma once
// One rank's GPU: its compute stream, and the workspace and library handles that operators use.

#include <cstddef>
#include <memory>
#include <string>

#include "runtime/cuda/handle.h"

namespace foretoken::cuda {

class Matmul;
class CudnnAttention;

/// Number of GPUs visible to this process; 0 without a driver.
int device_count();

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
  /// "NVIDIA H100 80GB HBM3"
  const std::string& name() const { return name_; }

  /// Scratch memory of one operator: the next operator on the stream may use the same memory. Allocates only
  /// if `bytes` exceeds every earlier request.
  void* workspace(std::size_t bytes) { return workspace_.reserve(bytes); }

  /// A counter in device memory for kernels that count across their blocks. It is 0 between operators: a
  /// kernel that uses it resets it.
  int* counter() const { return static_cast<int*>(counter_.get()); }

  Matmul& matmul() { return *matmul_; }
  CudnnAttention* cudnn_attention() { return cudnn_attention_.get(); }  // null without cuDNN

  void synchronize() const;
  /// Bytes of the GPU's memory that are in use, by all processes.
  static std::size_t memory_in_use();

 private:
  Options options_;
  std::string name_;
  int multiprocessors_ = 0;
  StreamHandle stream_;
  Buffer workspace_;
  Handle<void*, cudaFree> counter_;
  std::unique_ptr<Matmul> matmul_;
  std::unique_ptr<CudnnAttention> cudnn_attention_;
};

}  // namespace foretoken::cuda
