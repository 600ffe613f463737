#pragma once
// Communicator through host memory (staged_transport.h). Tensors in host memory are sent by MPI directly.
//
// Reductions accept the dtypes of MPI reductions, which do not include bf16.

#include <memory>

#include "parallel/comm/cuda/device_communicator.h"
#include "parallel/comm/cuda/staged_operation.h"

namespace foretoken::cuda {

class StagedCommunicator final : public DeviceCommunicator {
 public:
  /// Collective over the ranks.
  StagedCommunicator(StagedTransport& transport, std::unique_ptr<MpiCommunicator> ranks);

  Request start_send(const Tensor& tensor, int to, int tag) override;
  Request start_receive(const Tensor& tensor, int from, int tag) override;
  Request start_all_reduce(const Tensor& tensor, ReduceOp op) override;
  Request start_reduce_scatter(const Tensor& full, const Tensor& part) override;
  Request start_all_gather(const Tensor& part, const Tensor& full) override;
  Request start_broadcast(const Tensor& tensor, int root) override;

 private:
  Request start(StagedOperation::Plan plan);
  void require_reducible(const char* operation, const Tensor& tensor);

  StagedTransport& transport_;
  /// A second communicator of the same ranks. MPI matches the collectives of a communicator by start order,
  /// but the MPI call of a staged collective may start later than a collective of host() that was called
  /// after it.
  std::unique_ptr<MpiCommunicator> staged_;
};

}  // namespace foretoken::cuda
