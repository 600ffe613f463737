#pragma once
// Communicator over MPI, for tensors of CPU ranks.
//
// A wait polls and sleeps instead of spinning, because ranks may share cores. It throws PeerError after
// MpiLimits::wait. Every error that MPI reports is thrown as PeerError. A tensor may have more elements than
// an int can count. Reductions accept f32, f64 and integers. A sum of integers must fit its type, because
// Open MPI saturates the sums of some types. The other operations also accept bf16 and 8-bit floating point.
//
// Start every communication from the thread that created the world. Wait for a Request before its
// communicator is destroyed.

#include <memory>
#include <string>
#include <vector>

#include <mpi.h>

#include "parallel/comm/communicator.h"
#include "parallel/comm/mpi_world.h"

namespace foretoken {

class MpiCommunicator final : public Communicator {
 public:
  /// Creates the communicator of all ranks of the job. Collective.
  explicit MpiCommunicator(MpiWorld& world, std::string name = "world");
  ~MpiCommunicator() override;
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  /// Ranks that pass the same color form a group, in the order of their keys. Collective over this
  /// communicator. Returns nullptr on a rank whose color is negative.
  std::unique_ptr<MpiCommunicator> split(int color, int key, std::string name);

  MpiWorld& world() { return world_; }
  /// World rank of a rank of this group.
  int world_rank_of(int rank) const { return world_ranks_.at(static_cast<std::size_t>(rank)); }
  const std::vector<int>& world_ranks() const { return world_ranks_; }
  /// Throws DefectError if the group has no such rank.
  void require_peer(const char* operation, int peer) const;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const std::string& name() const override { return name_; }
  Communicator& host() override { return *this; }
  /// Describes an operation on this group for errors: "send of 64 bytes, peer rank 0 (world rank 1), tag 5,
  /// on "pipeline of dp0" (2 ranks)". A negative peer or tag is left out.
  std::string describe(const char* operation, std::size_t bytes, int peer = -1, int tag = -1) const;

  Request start_send(const Tensor& tensor, int to, int tag) override;
  Request start_receive(const Tensor& tensor, int from, int tag) override;
  Request start_all_reduce(const Tensor& tensor, ReduceOp op) override;
  Request start_reduce_scatter(const Tensor& full, const Tensor& part) override;
  Request start_all_gather(const Tensor& part, const Tensor& full) override;
  Request start_broadcast(const Tensor& tensor, int root) override;
  void barrier() override;

 private:
  class Operation;
  MpiCommunicator(MpiWorld& world, std::string name, MPI_Comm comm);

  /// Runs a blocking MPI call and records it as a wait. The watchdog ends the rank if the call exceeds the
  /// time limit.
  template <class Call>
  int without_limit(const char* name, const Call& call);
  void require_tag(const char* operation, int tag) const;

  MpiWorld& world_;
  std::string name_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
  std::vector<int> world_ranks_;
  int channel_ = 0;  // number of this group in the flight recorder
};

}  // namespace foretoken
