#include "runtime/cuda/graph.h"

#include "runtime/cuda/context.h"

namespace foretoken::cuda {

Graph::Graph(Context& gpu, const std::function<void()>& enqueue) : gpu_(&gpu), workspace_(gpu.workspace(0)) {
  check(cudaStreamBeginCapture(gpu.stream(), cudaStreamCaptureModeThreadLocal), "graph");
  Handle<cudaGraph_t, cudaGraphDestroy> recorded;
  try {
    enqueue();
  } catch (...) {
    cudaStreamEndCapture(gpu.stream(), recorded.out());
    cudaGetLastError();  // clears the capture's error: the exception reports the cause
    throw;
  }
  check(cudaStreamEndCapture(gpu.stream(), recorded.out()), "graph");
  check(cudaGraphInstantiate(graph_.out(), recorded.get(), 0), "graph");
}

bool Graph::valid() const {
  return gpu_->workspace(0) == workspace_;
}

void Graph::launch() {
  check(cudaGraphLaunch(graph_.get(), gpu_->stream()), "graph");
}

}  // namespace foretoken::cuda
