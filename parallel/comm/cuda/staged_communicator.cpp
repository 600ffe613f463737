#include "parallel/comm/cuda/staged_communicator.h"

#include <utility>

#include "parallel/comm/collective_tensors.h"
#include "runtime/error.h"

namespace foretoken::cuda {

namespace {

bool is_on_host(const Tensor& tensor) {
  return tensor.device == DeviceKind::cpu;
}

}  // namespace

StagedCommunicator::StagedCommunicator(StagedTransport& transport, std::unique_ptr<MpiCommunicator> ranks)
    : DeviceCommunicator(transport.stream(), std::move(ranks)),
      transport_(transport),
      staged_(this->ranks().split(0, rank(), name())) {}

Request StagedCommunicator::start(StagedOperation::Plan plan) {
  return Request(std::make_unique<StagedOperation>(transport_, std::move(plan)));
}

void StagedCommunicator::require_reducible(const char* operation, const Tensor& tensor) {
  if (tensor.dtype == DType::bf16)
    throw DefectError("staged: {} on \"{}\" does not support bf16", operation, name());
}

Request StagedCommunicator::start_send(const Tensor& tensor, int to, int tag) {
  if (is_on_host(tensor)) return ranks().start_send(tensor, to, tag);
  ranks().require_peer("send", to);
  return start(
      {.ranks = ranks(),
       .name = "send",
       .peer = to,
       .tag = tag,
       .whole = tensor,
       .from = tensor,
       .communicate = [this, to, tag](const Tensor& whole) { return staged_->start_send(whole, to, tag); }});
}

Request StagedCommunicator::start_receive(const Tensor& tensor, int from, int tag) {
  if (is_on_host(tensor)) return ranks().start_receive(tensor, from, tag);
  ranks().require_peer("receive", from);
  return start({.ranks = ranks(),
                .name = "receive",
                .peer = from,
                .tag = tag,
                .whole = tensor,
                .to = tensor,
                .communicate = [this, from, tag](const Tensor& whole) {
                  return staged_->start_receive(whole, from, tag);
                }});
}

Request StagedCommunicator::start_all_reduce(const Tensor& tensor, ReduceOp op) {
  if (is_on_host(tensor)) return ranks().start_all_reduce(tensor, op);
  require_reducible("all-reduce", tensor);
  if (size() == 1) return {};
  return start(
      {.ranks = ranks(),
       .name = "all-reduce",
       .whole = tensor,
       .from = tensor,
       .to = tensor,
       .communicate = [this, op](const Tensor& whole) { return staged_->start_all_reduce(whole, op); }});
}

Request StagedCommunicator::start_reduce_scatter(const Tensor& full, const Tensor& part) {
  if (is_on_host(full)) return ranks().start_reduce_scatter(full, part);
  require_own_part("staged", "reduce-scatter", part, full, *this, DeviceKind::cuda);
  require_reducible("reduce-scatter", full);
  if (size() == 1) return copy_alone(full, part);
  const std::int64_t elements = part.elements(), begin = elements * rank();
  return start({.ranks = ranks(),
                .name = "reduce-scatter",
                .whole = full,
                .from = full,
                .to = part,
                .to_begin = begin,
                .communicate = [this, begin, elements](const Tensor& whole) {
                  return staged_->start_reduce_scatter(whole, whole.flat(begin, elements));
                }});
}

Request StagedCommunicator::start_all_gather(const Tensor& part, const Tensor& full) {
  if (is_on_host(full)) return ranks().start_all_gather(part, full);
  require_own_part("staged", "all-gather", part, full, *this, DeviceKind::cuda);
  if (size() == 1) return copy_alone(part, full);
  const std::int64_t elements = part.elements(), begin = elements * rank();
  return start({.ranks = ranks(),
                .name = "all-gather",
                .whole = full,
                .from = part,
                .from_begin = begin,
                .to = full,
                .communicate = [this, begin, elements](const Tensor& whole) {
                  return staged_->start_all_gather(whole.flat(begin, elements), whole);
                }});
}

Request StagedCommunicator::start_broadcast(const Tensor& tensor, int root) {
  if (is_on_host(tensor)) return ranks().start_broadcast(tensor, root);
  ranks().require_peer("broadcast", root);
  if (size() == 1) return {};
  const bool sends = rank() == root;
  return start(
      {.ranks = ranks(),
       .name = "broadcast",
       .peer = root,
       .whole = tensor,
       .from = sends ? tensor : Tensor{},
       .to = sends ? Tensor{} : tensor,
       .communicate = [this, root](const Tensor& whole) { return staged_->start_broadcast(whole, root); }});
}

}  // namespace foretoken::cuda
