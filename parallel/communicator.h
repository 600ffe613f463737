#pragma once
// Collectives over a group of ranks. Count and dtype come from the tensor, so a byte count can never be
// passed for an element count. MPI implements it for CPU ranks; for GPUs NCCL does, or MPI through host
// memory.
//
// On a GPU a communication takes its place in the order of the compute stream: it starts after all that was
// enqueued before start_*(), and after wait() what is enqueued next runs after it. The host does not wait for
// the GPU; Transport::synchronize() (parallel/transport.h) does.

#include <memory>
#include <string>

#include "runtime/tensor.h"

namespace foretoken {

enum class ReduceOp { sum, max, min };

/// A communication under way. Its tensors must live, and those written to not be read, until wait() returned
/// or test() said that it is complete.
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
  /// Makes progress; true once it is complete (an inactive request is).
  bool test() {
    if (pending_ && pending_->test()) pending_.reset();
    return !pending_;
  }
  /// Returns when it is complete, or on a GPU ordered before what is enqueued next. A PeerError after the
  /// communicator's time limit, naming operation and peer.
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
  /// "dp of pp1": for messages.
  virtual const std::string& name() const = 0;
  /// The same ranks for tensors on the host.
  virtual Communicator& host() = 0;

  /// Starts only. Messages between one pair of ranks with one tag arrive in the order they were sent.
  /// NCCL has no tags: see Traffic (parallel/transport.h) for the order in which it wants the receives.
  virtual Request start_send(const Tensor& tensor, int to, int tag) = 0;
  virtual Request start_receive(const Tensor& tensor, int from, int tag) = 0;
  /// In place: every rank ends with the reduction over all ranks, the same bits on each.
  virtual Request start_all_reduce(const Tensor& tensor, ReduceOp op) = 0;
  /// full has size() equal parts; rank r ends with the sum of part r in `part` (which may be that part of
  /// full).
  virtual Request start_reduce_scatter(const Tensor& full, const Tensor& part) = 0;
  /// The inverse: full ends with every rank's part in rank order (part may be the own part of full).
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
