#include "parallel/comm/cuda/staged_transport.h"

#include <algorithm>
#include <utility>

#include "parallel/comm/cuda/staged_communicator.h"
#include "parallel/comm/cuda/staged_operation.h"

namespace foretoken::cuda {

StagedTransport::StagedTransport(MpiWorld& world, Stream& stream, std::string reason)
    : world_(world), stream_(stream), description_("messages through host memory: " + std::move(reason)) {
  world.add(*this);
}

StagedTransport::~StagedTransport() {
  world_.remove(*this);
}

std::unique_ptr<Communicator> StagedTransport::connect(std::unique_ptr<MpiCommunicator> ranks,
                                                       const Traffic&) {
  return std::make_unique<StagedCommunicator>(*this, std::move(ranks));
}

// The stream waits for no peer: received data has arrived before its copy to the GPU is enqueued. The loop
// also progresses pending sends, because peers may wait for them.
void StagedTransport::synchronize() {
  const auto done = [&] {
    progress();
    return has_run(cudaStreamQuery(stream_.cuda().stream()), "stream");
  };
  while (!poll_until(limit(), done)) {
  }
}

StagingBuffer& StagedTransport::take_buffer(std::size_t bytes) {
  StagingBuffer* best = nullptr;
  for (StagingBuffer& buffer : buffers_)
    if (!buffer.in_use && buffer.bytes >= bytes && (!best || buffer.bytes < best->bytes) &&
        has_run(cudaEventQuery(buffer.copied.get()), "staging"))
      best = &buffer;
  if (!best) {
    const std::size_t size = std::max<std::size_t>(bytes, 256);
    best = &buffers_.emplace_back();
    best->copied = make_event();
    *best->memory.out() = allocate_page_locked(size);
    best->bytes = size;
  }
  best->in_use = true;
  return *best;
}

void StagedTransport::progress() {
  bool may_start = true;  // false after the first operation that has not started its MPI call
  for (auto next = pending_.begin(); next != pending_.end();) {
    StagedOperation& operation = **next;
    if (may_start) may_start = operation.start_when_copied();
    next = operation.finish_when_communicated() ? pending_.erase(next) : std::next(next);
  }
}

}  // namespace foretoken::cuda
