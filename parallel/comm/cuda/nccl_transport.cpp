#include "parallel/comm/cuda/nccl_transport.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "parallel/comm/cuda/nccl_communicator.h"
#include "parallel/comm/cuda/nccl_link.h"

namespace foretoken::cuda {

NcclTransport::NcclTransport(MpiWorld& world, Stream& stream) : world_(world), stream_(stream) {
  int version = 0;
  ncclGetVersion(&version);
  description_ = fmt::format("NCCL {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

std::unique_ptr<Communicator> NcclTransport::connect(std::unique_ptr<MpiCommunicator> ranks,
                                                     const Traffic& traffic) {
  return std::make_unique<NcclCommunicator>(*this, std::move(ranks), traffic);
}

EventHandle NcclTransport::take_event() {
  if (events_.empty()) return make_event();
  EventHandle event = std::move(events_.back());
  events_.pop_back();
  return event;
}

void NcclTransport::finished(std::uint64_t sequence, EventHandle event) {
  recorder().finish(sequence);
  events_.push_back(std::move(event));
  ++finished_;
}

// The limit applies to one operation, not to the step: it restarts each time an operation completes.
void NcclTransport::synchronize() {
  if (links_.empty()) return stream_.synchronize();
  bool done = false;
  while (!done) {
    const std::uint64_t before = finished_;
    std::optional<FlightRecorder::Wait> waiting(std::in_place, recorder(), FlightRecorder::oldest_unfinished,
                                                limit());
    const bool moves = poll_until(limit(), [&] {
      done = has_run(cudaStreamQuery(compute()), "stream");
      for (NcclLink* link : links_) link->check();
      return done || finished_ != before;
    });
    if (moves) continue;
    const NcclLink& link = **std::min_element(
        links_.begin(), links_.end(), [](NcclLink* a, NcclLink* b) { return a->oldest() < b->oldest(); });
    if (link.oldest() == NcclLink::none) {  // only compute is pending, which waits for no peer
      waiting.reset();
      return stream_.synchronize();
    }
    fail("{}: not complete after {:g} s", link.describe_oldest(), limit().count());
  }
}

// Does not call ncclCommAbort, which can deadlock: its thread (NCCL 2.28.3) waited in cuMemFreeHost for the
// kernel that it had to end, and held a driver lock that blocks the next CUDA call of every thread.
void NcclTransport::abandon() noexcept {
  gpu_abandoned = true;
  for (NcclLink* link : links_) link->abandon();
}

}  // namespace foretoken::cuda
