#pragma once
// Support for multi-rank cases on GPUs (tagged [gpu], in files named *_cuda_test.cpp). The ranks of a machine
// are spread evenly over its GPUs; a case fails if the machine has no GPU.

#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/cuda/nccl_transport.h"
#include "parallel/comm/cuda/staged_transport.h"
#include "runtime/arena.h"
#include "runtime/device.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "tests/support/multi_rank.h"

namespace foretoken::multi_rank {

inline Device::Options own_gpu() {
  const int gpus = Device::gpus();
  if (gpus == 0) throw UsageError("this test needs a GPU, and this process sees none");
  return {.kind = DeviceKind::cuda, .gpu = world().world().local_rank() % gpus};
}

/// This rank's GPU and tensors on it.
class Gpu {
 public:
  Stream& stream() { return device_.stream(); }

  template <class T>
  Tensor upload(std::vector<T> values) {
    const auto elements = static_cast<std::int64_t>(values.size());
    const Tensor tensor = arena_.tensor(dtype_of<T>(), {elements});
    copy(stream(), tensor_over(std::span<T>(values), {elements}), tensor);
    stream().synchronize();
    return tensor;
  }

  template <class T>
  std::vector<T> download(const Tensor& tensor) {
    std::vector<T> values(static_cast<std::size_t>(tensor.elements()));
    copy(stream(), tensor, tensor_over(std::span<T>(values), tensor.shape));
    stream().synchronize();
    return values;
  }

  /// The transports that this machine supports: through host memory, and NCCL if every rank has its own GPU.
  std::vector<std::unique_ptr<Transport>> transports() {
    std::vector<std::unique_ptr<Transport>> all;
    all.push_back(std::make_unique<cuda::StagedTransport>(world().world(), stream(), "asked for"));
    auto own = make_transport(world(), stream());
    if (own->description().starts_with("NCCL")) all.push_back(std::move(own));
    return all;
  }

 private:
  Device device_{own_gpu()};
  Arena arena_{DeviceKind::cuda};
};

/// A communicator of all ranks over the transport.
inline std::unique_ptr<Communicator> connect(Transport& transport, const Traffic& traffic) {
  return transport.connect(world().split(0, world().rank(), "all"), traffic);
}

}  // namespace foretoken::multi_rank
