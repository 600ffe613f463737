#pragma once
// One rank's GPU: its compute stream and what operators need beside their tensors.

#include <cstddef>
#include <memory>
#include <string>

#include "runtime/cuda/handle.h"

namespace foretoken::cuda {

class Matmul;
class CudnnAttention;

/// GPUs that this process sees; 0 where there is no driver.
int device_count();

class Context {
 public:
  struct Options {
    int device = 0;
    /// Every run of the same program on the same kind of GPU gives the same bits: algorithms are chosen
    /// without timing them, and none that adds in an order of chance.
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

  /// Scratch of one operator: the next operator on the stream may take the same memory. Allocates where a
  /// shape is met for the first time and no other asked for as much.
  void* workspace(std::size_t bytes) { return workspace_.reserve(bytes); }

  /// 0 between operators: for kernels that count something among their blocks, and leave it 0.
  int* counter() const { return static_cast<int*>(counter_.get()); }

  Matmul& matmul() { return *matmul_; }
  CudnnAttention* cudnn_attention() { return cudnn_attention_.get(); }  // null where cuDNN is absent

  void synchronize() const;
  /// Bytes of the GPU's memory that are in use, by anybody.
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
