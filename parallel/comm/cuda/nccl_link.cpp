#include "parallel/comm/cuda/nccl_link.h"

#include <exception>
#include <utility>

#include "runtime/error.h"

namespace foretoken::cuda {

namespace {

/// Time limit for finalizing a communicator. A peer that does not arrive has failed, which is not an error at
/// the end of the run.
constexpr Seconds finalize_limit{30};

/// Waits for a call of a nonblocking communicator, which continues in NCCL's own thread. Returns its result,
/// or ncclInProgress after the limit.
ncclResult_t outcome(ncclComm_t communicator, ncclResult_t result, Seconds limit) {
  if (result != ncclInProgress) return result;
  poll_until(limit, [&] {
    const ncclResult_t query = ncclCommGetAsyncError(communicator, &result);
    if (query != ncclSuccess) result = query;
    return result != ncclInProgress;
  });
  return result;
}

StreamHandle make_stream() {
  // High priority: communication runs before compute that waits for a multiprocessor, because peers wait for
  // it.
  int lowest = 0, highest = 0;
  check(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "stream");
  StreamHandle stream;
  check(cudaStreamCreateWithPriority(stream.out(), cudaStreamNonBlocking, highest), "stream");
  return stream;
}

}  // namespace

class NcclLink::Pending final : public Request::Pending {
 public:
  Pending(NcclLink& link, std::shared_ptr<Operation> operation)
      : link_(link), operation_(std::move(operation)) {}

  bool test() override {
    link_.check();
    return operation_->complete;
  }

  void wait() override {
    link_.check();
    if (!operation_->complete)
      cuda::check(cudaStreamWaitEvent(link_.transport_.compute(), operation_->done.get(), 0), "wait");
  }

 private:
  NcclLink& link_;
  std::shared_ptr<Operation> operation_;
};

NcclLink::NcclLink(NcclTransport& transport, const MpiCommunicator& group, int channel,
                   const Members& members, std::vector<std::unique_ptr<Handshake>> handshakes)
    : transport_(transport),
      group_(group),
      channel_(channel),
      kind_(members.peer < 0 ? FlightRecorder::Kind::collective
            : members.sends  ? FlightRecorder::Kind::send
                             : FlightRecorder::Kind::receive),
      tag_(members.tag),
      stream_(make_stream()),
      ready_(make_event()),
      handshakes_(std::move(handshakes)) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.commName = group.name().c_str();
  if (members.blocks > 0) config.maxCTAs = members.blocks;
  const ncclResult_t result =
      ncclCommInitRankConfig(&communicator_, members.ranks, members.id, members.rank, &config);
  transport_.add(*this);
  starting_ = std::make_shared<Operation>(
      Operation{.name = "set-up", .peer = members.peer, .sequence = record("set-up", 0, members.peer)});
  try {
    await_enqueued(result);
  } catch (...) {
    transport_.remove(*this);
    throw;
  }
  recorder().finish(starting_->sequence);
  starting_.reset();
}

NcclLink::~NcclLink() {
  transport_.remove(*this);
  if (communicator_ == nullptr) return;
  if (std::uncaught_exceptions() == 0 &&
      outcome(communicator_, ncclCommFinalize(communicator_), finalize_limit) == ncclSuccess) {
    ncclCommDestroy(communicator_);
  } else {
    gpu_abandoned = true;
  }
}

std::uint64_t NcclLink::record(const char* name, std::size_t bytes, int peer) {
  return recorder().start(name, channel_, kind_, bytes, peer, tag_);
}

void NcclLink::begin(const char* name, std::size_t bytes, int peer) {
  check();
  starting_ = std::make_shared<Operation>(Operation{.name = name,
                                                    .bytes = bytes,
                                                    .peer = peer,
                                                    .sequence = record(name, bytes, peer),
                                                    .done = transport_.take_event()});
  cuda::check(cudaEventRecord(ready_.get(), transport_.compute()), name);
  cuda::check(cudaStreamWaitEvent(stream_.get(), ready_.get(), 0), name);
  for (const auto& handshake : handshakes_)
    if (handshake) handshake->enqueue(stream_.get());
  if (Timeline* timeline = transport_.stream().timeline())
    starting_->span = timeline->begin(span_of(*starting_), stream_.get());
}

TimelineSpan NcclLink::span_of(const Operation& operation) const {
  const std::string_view name = operation.name;
  return {.kind = name == "receive" ? TimelineSpan::Kind::receive : TimelineSpan::Kind::communication,
          .lane = operation.peer < 0 ? group_.name()
                                     : fmt::format("{}: {}, rank {}", group_.name(), name, operation.peer),
          .name = fmt::format("{} {:.1f} MB", name, static_cast<double>(operation.bytes) / 1e6)};
}

/// Returns when NCCL has enqueued the operation. The first operation may have to wait for the peer.
void NcclLink::await_enqueued(ncclResult_t result) {
  const FlightRecorder::Wait waiting(recorder(), starting_->sequence, transport_.limit());
  result = outcome(communicator_, result, transport_.limit());
  if (result != ncclSuccess) fail(result);
}

Request NcclLink::finish_start() {
  if (Timeline* timeline = transport_.stream().timeline()) timeline->end(starting_->span);
  cuda::check(cudaEventRecord(starting_->done.get(), stream_.get()), starting_->name);
  pending_.push_back(std::move(starting_));
  return Request(std::make_unique<Pending>(*this, pending_.back()));
}

void NcclLink::collect() {
  while (!pending_.empty() && has_run(cudaEventQuery(pending_.front()->done.get()), pending_.front()->name)) {
    Operation& operation = *pending_.front();
    operation.complete = true;
    transport_.finished(operation.sequence, std::move(operation.done));
    pending_.pop_front();
  }
}

void NcclLink::check() {
  if (communicator_ == nullptr) throw PeerError("nccl: \"{}\" was used after a failure", group_.name());
  collect();
  ncclResult_t state = ncclSuccess;
  const ncclResult_t query = ncclCommGetAsyncError(communicator_, &state);
  if (query != ncclSuccess) state = query;
  if (state != ncclSuccess && state != ncclInProgress) fail(state);
}

std::string NcclLink::describe_oldest() const {
  return describe(*pending_.front());
}

std::string NcclLink::describe(const Operation& operation) const {
  return group_.describe(operation.name, operation.bytes, operation.peer);
}

void NcclLink::fail(ncclResult_t result) {
  const std::string what = starting_          ? describe(*starting_)
                           : pending_.empty() ? group_.describe("no operation", 0)
                                              : describe_oldest();
  if (result == ncclInProgress)
    transport_.fail("{}: the peer did not join within {:g} s", what, transport_.limit().count());
  const char* detail = communicator_ != nullptr ? ncclGetLastError(communicator_) : "";
  transport_.fail("{}: {}{}{}", what, ncclGetErrorString(result), *detail != '\0' ? ": " : "", detail);
}

}  // namespace foretoken::cuda
