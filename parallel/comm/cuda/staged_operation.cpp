#include "parallel/comm/cuda/staged_operation.h"

#include <utility>

#include "runtime/error.h"
#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken::cuda {

StagedOperation::StagedOperation(StagedTransport& transport, Plan plan)
    : transport_(transport), plan_(std::move(plan)), buffer_(transport.take_buffer(plan_.whole.bytes())) {
  plan_.whole.data = buffer_.memory.get();
  plan_.whole.device = DeviceKind::cpu;
  if (plan_.from.defined()) {
    foretoken::copy(transport_.stream(), plan_.from,
                    plan_.whole.flat(plan_.from_begin, plan_.from.elements()));
    check(cudaEventRecord(buffer_.copied.get(), transport_.stream().cuda().stream()), "copy");
  }
  transport_.add(*this);
}

StagedOperation::~StagedOperation() {
  if (state_ != State::complete) transport_.remove(*this);
  if (state_ == State::copying) buffer_.in_use = false;
}

bool StagedOperation::start_when_copied() {
  if (state_ != State::copying) return true;
  if (!has_run(cudaEventQuery(buffer_.copied.get()), "copy")) return false;
  request_ = plan_.communicate(plan_.whole);
  state_ = State::communicating;
  return true;
}

bool StagedOperation::finish_when_communicated() {
  if (state_ != State::communicating || !request_.test()) return false;
  if (plan_.to.defined()) {
    foretoken::copy(transport_.stream(), plan_.whole.flat(plan_.to_begin, plan_.to.elements()), plan_.to);
    check(cudaEventRecord(buffer_.copied.get(), transport_.stream().cuda().stream()), "copy");
  }
  buffer_.in_use = false;
  state_ = State::complete;
  return true;
}

bool StagedOperation::test() {
  transport_.progress();
  return state_ == State::complete;
}

void StagedOperation::wait() {
  const FlightRecorder::Wait waiting(transport_.recorder(), FlightRecorder::oldest_unfinished,
                                     transport_.limit());
  if (!poll_until(transport_.limit(), [&] { return test(); }))
    throw PeerError("staged: {}: not complete after {:g} s",
                    plan_.ranks.describe(plan_.name, plan_.whole.bytes(), plan_.peer, plan_.tag),
                    transport_.limit().count());
}

}  // namespace foretoken::cuda
