#include "parallel/comm/cuda/nccl_communicator.h"

#include <span>
#include <utility>
#include <vector>

#include "parallel/comm/collective_tensors.h"
#include "runtime/error.h"

namespace foretoken::cuda {

namespace {

/// Number of thread blocks of a link for messages, or for collectives with Traffic::may_start_early. With a
/// handshake all ends start together, and the number saturates the connection. Without a handshake it is
/// small, because a kernel that waits for the other end occupies its blocks, and the kernels of all links
/// must fit on the GPU next to compute.
constexpr int blocks_with_handshake = 16, blocks_without_handshake = 4;

Tensor bytes_of(ncclUniqueId& id) {
  const std::span bytes(reinterpret_cast<std::uint8_t*>(id.internal), sizeof id.internal);
  return tensor_over(bytes, {static_cast<std::int64_t>(bytes.size())});
}

ncclUniqueId make_id() {
  ncclUniqueId id{};
  if (const ncclResult_t result = ncclGetUniqueId(&id); result != ncclSuccess)
    throw PeerError("nccl: set-up: {}", ncclGetErrorString(result));
  return id;
}

ncclDataType_t reducible_type(const char* operation, DType dtype) {
  switch (dtype) {
    case DType::f32:
      return ncclFloat32;
    case DType::f64:
      return ncclFloat64;
    case DType::bf16:
      return ncclBfloat16;
    case DType::i32:
      return ncclInt32;
    case DType::i64:
      return ncclInt64;
    case DType::u8:
      return ncclUint8;
    case DType::u32:
      return ncclUint32;
    case DType::u16:
    case DType::f8e4m3:
    case DType::f8e5m2:
      break;
  }
  throw DefectError("nccl: {} does not support {}", operation, name_of(dtype));
}

ncclRedOp_t nccl_op(ReduceOp op) {
  return op == ReduceOp::sum ? ncclSum : op == ReduceOp::max ? ncclMax : ncclMin;
}

std::size_t elements_of(const Tensor& tensor) {
  return static_cast<std::size_t>(tensor.elements());
}

}  // namespace

NcclCommunicator::NcclCommunicator(NcclTransport& transport, std::unique_ptr<MpiCommunicator> ranks,
                                   const Traffic& traffic)
    : DeviceCommunicator(transport.stream(), std::move(ranks)) {
  if (size() == 1) return;
  channel_ = transport.recorder().add_channel(name() + " on GPUs", this->ranks().world_ranks());
  if (traffic.collectives) connect_all(transport, traffic.may_start_early);
  if (traffic.neighbour_messages) connect_neighbours(transport, traffic.ring);
}

void NcclCommunicator::connect_all(NcclTransport& transport, bool may_start_early) {
  ncclUniqueId id = rank() == 0 ? make_id() : ncclUniqueId{};
  ranks().broadcast(bytes_of(id), 0);
  std::vector<std::unique_ptr<Handshake>> handshakes;
  std::int32_t all_handshake = 1;
  // All ranks connect the pairs in the same order, and each operation enqueues the handshakes in that order
  // too.
  for (int peer = 0; may_start_early && peer < size(); ++peer) {
    if (peer == rank()) continue;
    handshakes.push_back(Handshake::connect(ranks(), peer, 0, rank() < peer));
    if (!handshakes.back()) all_handshake = 0;
  }
  ranks().all_reduce(tensor_over(std::span(&all_handshake, 1), {1}), ReduceOp::min);
  const int blocks = !may_start_early     ? 0
                     : all_handshake == 1 ? blocks_with_handshake
                                          : blocks_without_handshake;
  const NcclLink::Members members{.id = id, .ranks = size(), .rank = rank(), .blocks = blocks};
  collectives_ = std::make_unique<NcclLink>(transport, ranks(), channel_, members, std::move(handshakes));
  start_broadcast(transport.scratch(), 0).wait();
  transport.synchronize();
}

// All ranks create the links in the same order, so a rank that waits for the peer of its next link is not
// deadlocked. Links between ranks r and r + 1 are created for even r first, then for odd r, which creates
// most of them concurrently.
//
// Each new link sends one byte, because NCCL connects two ranks in their first exchange. Connecting blocks
// the host, so two ranks that connect during a step could wait for each other.
void NcclCommunicator::connect_neighbours(NcclTransport& transport, bool ring) {
  const int pairs = ring ? size() : size() - 1;
  for (const int first : {0, 1})
    for (int lower = first; lower < pairs; lower += 2)
      for (const bool ascending : {true, false}) {
        const int upper = (lower + 1) % size();
        const int from = ascending ? lower : upper, to = ascending ? upper : lower;
        if (rank() != from && rank() != to) continue;
        ncclUniqueId id = rank() == from ? make_id() : ncclUniqueId{};
        const int tag = ascending ? 0 : 1;
        if (rank() == from)
          ranks().send(bytes_of(id), to, tag);
        else
          ranks().receive(bytes_of(id), from, tag);
        std::vector<std::unique_ptr<Handshake>> handshakes;
        handshakes.push_back(Handshake::connect(ranks(), rank() == from ? to : from, tag, rank() == from));
        const NcclLink::Members members{
            .id = id,
            .ranks = 2,
            .rank = rank() == from ? 0 : 1,
            .sends = rank() == from,
            .peer = rank() == from ? to : from,
            .tag = tag,
            .blocks = handshakes[0] ? blocks_with_handshake : blocks_without_handshake};
        directions_.push_back(
            {from, to, ascending,
             std::make_unique<NcclLink>(transport, ranks(), channel_, members, std::move(handshakes))});
        if (rank() == from)
          start_send(transport.scratch(), to, tag).wait();
        else
          start_receive(transport.scratch(), from, tag).wait();
        transport.synchronize();
      }
}

NcclLink& NcclCommunicator::message_link(const char* operation, int from, int to, int tag) {
  Direction* found = nullptr;
  for (Direction& direction : directions_)
    if (direction.from == from && direction.to == to && (!found || direction.ascending == (tag % 2 == 0)))
      found = &direction;
  if (!found)
    throw DefectError(
        "nccl: {} from rank {} to {} of \"{}\" ({} ranks): the group has no link for these messages",
        operation, from, to, name(), size());
  return *found->link;
}

NcclLink& NcclCommunicator::collectives(const char* operation) {
  if (!collectives_)
    throw DefectError("nccl: {} on \"{}\": the group has no link for collectives", operation, name());
  return *collectives_;
}

Request NcclCommunicator::start_send(const Tensor& tensor, int to, int tag) {
  require_device("nccl", "send", tensor, DeviceKind::cuda);
  NcclLink& link = message_link("send", rank(), to, tag);
  if (tensor.elements() == 0) return {};
  return link.start("send", tensor.bytes(), to, [&](ncclComm_t comm, cudaStream_t on) {
    return ncclSend(tensor.data, tensor.bytes(), ncclUint8, 1, comm, on);
  });
}

Request NcclCommunicator::start_receive(const Tensor& tensor, int from, int tag) {
  require_device("nccl", "receive", tensor, DeviceKind::cuda);
  NcclLink& link = message_link("receive", from, rank(), tag);
  if (tensor.elements() == 0) return {};
  return link.start("receive", tensor.bytes(), from, [&](ncclComm_t comm, cudaStream_t on) {
    return ncclRecv(tensor.data, tensor.bytes(), ncclUint8, 0, comm, on);
  });
}

Request NcclCommunicator::start_all_reduce(const Tensor& tensor, ReduceOp op) {
  require_device("nccl", "all-reduce", tensor, DeviceKind::cuda);
  const ncclDataType_t type = reducible_type("all-reduce", tensor.dtype);
  if (size() == 1 || tensor.elements() == 0) return {};
  return collectives("all-reduce")
      .start("all-reduce", tensor.bytes(), -1, [&](ncclComm_t comm, cudaStream_t on) {
        return ncclAllReduce(tensor.data, tensor.data, elements_of(tensor), type, nccl_op(op), comm, on);
      });
}

Request NcclCommunicator::start_reduce_scatter(const Tensor& full, const Tensor& part) {
  require_own_part("nccl", "reduce-scatter", part, full, *this, DeviceKind::cuda);
  const ncclDataType_t type = reducible_type("reduce-scatter", full.dtype);
  if (size() == 1) return copy_alone(full, part);
  if (part.elements() == 0) return {};
  return collectives("reduce-scatter")
      .start("reduce-scatter", full.bytes(), -1, [&](ncclComm_t comm, cudaStream_t on) {
        return ncclReduceScatter(full.data, part.data, elements_of(part), type, ncclSum, comm, on);
      });
}

Request NcclCommunicator::start_all_gather(const Tensor& part, const Tensor& full) {
  require_own_part("nccl", "all-gather", part, full, *this, DeviceKind::cuda);
  if (size() == 1) return copy_alone(part, full);
  if (part.elements() == 0) return {};
  return collectives("all-gather")
      .start("all-gather", full.bytes(), -1, [&](ncclComm_t comm, cudaStream_t on) {
        return ncclAllGather(part.data, full.data, part.bytes(), ncclUint8, comm, on);
      });
}

Request NcclCommunicator::start_broadcast(const Tensor& tensor, int root) {
  require_device("nccl", "broadcast", tensor, DeviceKind::cuda);
  ranks().require_peer("broadcast", root);
  if (size() == 1 || tensor.elements() == 0) return {};
  return collectives("broadcast")
      .start("broadcast", tensor.bytes(), root, [&](ncclComm_t comm, cudaStream_t on) {
        return ncclBroadcast(tensor.data, tensor.data, tensor.bytes(), ncclUint8, root, comm, on);
      });
}

}  // namespace foretoken::cuda
