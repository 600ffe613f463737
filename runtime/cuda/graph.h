#pragma once
// A recorded sequence of work on a context's stream, which one call launches again.

#include <functional>

#include "runtime/cuda/handle.h"

namespace foretoken::cuda {

class Context;

class Graph {
 public:
  /// Records the work that `enqueue` puts on the stream without running it. `enqueue` must neither allocate
  /// nor wait, and the memory that the work uses must outlive the graph.
  Graph(Context& gpu, const std::function<void()>& enqueue);

  /// False once the context's workspace, which the graph may use, was reallocated: record a new graph then.
  bool valid() const;
  void launch();

 private:
  Context* gpu_;
  void* workspace_;
  Handle<cudaGraphExec_t, cudaGraphExecDestroy> graph_;
};

}  // namespace foretoken::cuda
