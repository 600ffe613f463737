#pragma once
// Transport over NCCL: the state that all links of a rank share. One per rank.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "parallel/comm/transport.h"
#include "runtime/cuda/context.h"
#include "runtime/cuda/handle.h"
#include "runtime/error.h"

namespace foretoken::cuda {

class NcclLink;

class NcclTransport final : public Transport {
 public:
  NcclTransport(MpiWorld& world, Stream& stream);

  std::unique_ptr<Communicator> connect(std::unique_ptr<MpiCommunicator> ranks,
                                        const Traffic& traffic) override;
  void synchronize() override;
  const std::string& description() const override { return description_; }

  // Used by NcclLink:

  Stream& stream() { return stream_; }
  cudaStream_t compute() const { return stream_.cuda().stream(); }
  FlightRecorder& recorder() { return world_.recorder(); }
  Seconds limit() { return world_.limits().wait; }
  /// GPU memory for the message that tests a new link.
  Tensor scratch() { return {scratch_.reserve(256), DType::u8, DeviceKind::cuda, {1}}; }

  void add(NcclLink& link) { links_.push_back(&link); }
  void remove(NcclLink& link) { std::erase(links_, &link); }

  /// Reuses events, so that none is created after the first steps.
  EventHandle take_event();
  /// Marks an operation complete and takes its event for reuse.
  void finished(std::uint64_t sequence, EventHandle event);

  /// Abandons the GPU and throws PeerError. Work on the GPU may wait for a peer until the process ends.
  template <class... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
    abandon();
    throw PeerError("nccl: {}", fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  void abandon() noexcept;

  MpiWorld& world_;
  Stream& stream_;
  std::string description_;
  Buffer scratch_;
  std::vector<NcclLink*> links_;
  std::vector<EventHandle> events_;  // free events
  std::uint64_t finished_ = 0;       // number of completed operations
};

}  // namespace foretoken::cuda
