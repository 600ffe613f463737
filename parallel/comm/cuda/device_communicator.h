#pragma once
// Common part of the communicators for tensors on a GPU.

#include <memory>
#include <string>
#include <utility>

#include "parallel/comm/mpi_communicator.h"
#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken::cuda {

class DeviceCommunicator : public Communicator {
 public:
  int rank() const override { return ranks_->rank(); }
  int size() const override { return ranks_->size(); }
  const std::string& name() const override { return ranks_->name(); }
  Communicator& host() override { return *ranks_; }
  void barrier() override { ranks_->barrier(); }

 protected:
  DeviceCommunicator(Stream& stream, std::unique_ptr<MpiCommunicator> ranks)
      : stream_(stream), ranks_(std::move(ranks)) {}

  Stream& stream() { return stream_; }
  MpiCommunicator& ranks() { return *ranks_; }

  /// A gather or scatter in a group of one rank is a copy.
  Request copy_alone(const Tensor& from, const Tensor& to) {
    if (from.data != to.data) foretoken::copy(stream_, from, to);
    return {};
  }

 private:
  Stream& stream_;
  std::unique_ptr<MpiCommunicator> ranks_;
};

}  // namespace foretoken::cuda
