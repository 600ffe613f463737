#pragma once
// Collectives and messages in a group of ranks. On CPU ranks MPI implements them; on GPUs NCCL does, or MPI
// through host memory. Count and dtype come from the tensor, so a byte count cannot be passed for an element
// count.
//
// On a GPU a communication is ordered with the compute stream: it starts after all work enqueued before
// start_*(), and work enqueued after wait() runs after it. The host does not wait for the GPU, except in
// Transport::synchronize() (parallel/comm/transport.h).

#include <memory>
#include <string>

#include "runtime/tensor.h"

namespace foretoken {

enum class ReduceOp { sum, max, min };

/// A communication in progress. Until wait() returns or test() returns true, its tensors must stay valid and
/// its output tensors must not be read.
class Request {
 public:
  class Pending {
   public:
    virtual ~Pending() = default;
    virtual bool test() = 0;
    virtual void wait() = 0;
  };

  Request() = default;
  explicit Request(std::unique_ptr<Pending> pending) : pending_(std::move(pending)) {}

  bool active() const { return pending_ != nullptr; }
  /// Makes progress; returns true if the communication is complete. An inactive request is complete.
  bool test() {
    if (pending_ && pending_->test()) pending_.reset();
    return !pending_;
  }
  /// Returns when the communication is complete; on a GPU, when it is ordered before work enqueued later.
  /// Throws PeerError, naming operation and peer, if the communication fails or, over MPI, if it is not
  /// complete within MpiLimits::wait. Over NCCL the host does not wait here; Transport::synchronize() applies
  /// the limit.
  void wait() {
    if (pending_) pending_->wait();
    pending_.reset();
  }

 private:
  std::unique_ptr<Pending> pending_;
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Name for error messages: "dp of pp1".
  virtual const std::string& name() const = 0;
  /// A communicator of the same ranks for tensors in host memory.
  virtual Communicator& host() = 0;

  // Messages from one rank to another with the same tag arrive in the order of the sends. NCCL has no tags:
  // Traffic (parallel/comm/transport.h) states the order of receives that NCCL requires.
  virtual Request start_send(const Tensor& tensor, int to, int tag) = 0;
  virtual Request start_receive(const Tensor& tensor, int from, int tag) = 0;
  /// Replaces the tensor by its reduction over all ranks, with the same bits on every rank.
  virtual Request start_all_reduce(const Tensor& tensor, ReduceOp op) = 0;
  /// `full` has size() equal parts; rank r receives the sum of part r in `part`, which may be part r of
  /// `full`.
  virtual Request start_reduce_scatter(const Tensor& full, const Tensor& part) = 0;
  /// `full` receives every rank's part in rank order; `part` may be this rank's part of `full`.
  virtual Request start_all_gather(const Tensor& part, const Tensor& full) = 0;
  virtual Request start_broadcast(const Tensor& tensor, int root) = 0;
  virtual void barrier() = 0;

  void send(const Tensor& tensor, int to, int tag) { start_send(tensor, to, tag).wait(); }
  void receive(const Tensor& tensor, int from, int tag) { start_receive(tensor, from, tag).wait(); }
  void all_reduce(const Tensor& tensor, ReduceOp op = ReduceOp::sum) { start_all_reduce(tensor, op).wait(); }
  void all_gather(const Tensor& part, const Tensor& full) { start_all_gather(part, full).wait(); }
  void broadcast(const Tensor& tensor, int root) { start_broadcast(tensor, root).wait(); }
};

}  // namespace foretoken
