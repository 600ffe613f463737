#pragma once
// A CUDA graph: work on a context's stream that is captured once and launched again by one call.

#include <functional>

#include "runtime/cuda/handle.h"

namespace foretoken::cuda {

class Context;

class Graph {
 public:
  /// Captures the work that `enqueue` puts on the stream, without running it. `enqueue` must neither allocate
  /// nor wait, and the memory that the work uses must outlive the graph.
  Graph(Context& gpu, const std::function<void()>& enqueue);

  /// False if the context's workspace, which the graph may use, has been reallocated since the capture. Then
  /// a new graph must be captured.
  bool valid() const;
  void launch();

 private:
  Context* gpu_;
  void* workspace_;
  Handle<cudaGraphExec_t, cudaGraphExecDestroy> graph_;
};

}  // namespace foretoken::cuda
