#pragma once
// Communicator over NCCL, for tensors on the rank's GPU.
//
// Reductions accept f32, f64, bf16, i32, i64, u32 and u8; the other operations accept every dtype.

#include <memory>
#include <vector>

#include "parallel/comm/cuda/device_communicator.h"
#include "parallel/comm/cuda/nccl_link.h"
#include "parallel/comm/transport.h"

namespace foretoken::cuda {

class NcclCommunicator final : public DeviceCommunicator {
 public:
  /// Collective over the ranks.
  NcclCommunicator(NcclTransport& transport, std::unique_ptr<MpiCommunicator> ranks, const Traffic& traffic);

  Request start_send(const Tensor& tensor, int to, int tag) override;
  Request start_receive(const Tensor& tensor, int from, int tag) override;
  Request start_all_reduce(const Tensor& tensor, ReduceOp op) override;
  Request start_reduce_scatter(const Tensor& full, const Tensor& part) override;
  Request start_all_gather(const Tensor& part, const Tensor& full) override;
  Request start_broadcast(const Tensor& tensor, int root) override;

 private:
  /// Messages from one rank to a neighbour.
  struct Direction {
    int from = 0;
    int to = 0;
    /// From rank r to r + 1, cyclic. If both directions join the same two ranks, this one has even tags.
    bool ascending = true;
    std::unique_ptr<NcclLink> link;
  };

  void connect_neighbours(NcclTransport& transport, bool ring);
  void connect_all(NcclTransport& transport, bool may_start_early);
  NcclLink& message_link(const char* operation, int from, int to, int tag);
  NcclLink& collectives(const char* operation);

  int channel_ = 0;                    // number of this group in the flight recorder
  std::vector<Direction> directions_;  // the directions with this rank at one end
  std::unique_ptr<NcclLink> collectives_;
};

}  // namespace foretoken::cuda
