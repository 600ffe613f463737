#pragma once
// What was once enqueued on a context's stream, to be run again by one call.

#include <functional>

#include "runtime/cuda/handle.h"

namespace foretoken::cuda {

class Context;

class Graph {
 public:
  /// Records what `enqueue` puts on the stream; it does not run yet. It must not allocate and not wait, and
  /// the memory that it works on must outlive the graph.
  Graph(Context& gpu, const std::function<void()>& enqueue);

  /// False once the context's workspace, which the graph may use, lies elsewhere: it is to be made again.
  bool valid() const;
  void launch();

 private:
  Context* gpu_;
  void* workspace_;
  Handle<cudaGraphExec_t, cudaGraphExecDestroy> graph_;
};

}  // namespace foretoken::cuda
