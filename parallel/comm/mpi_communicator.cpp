#include "parallel/comm/mpi_communicator.h"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <utility>

#include "parallel/comm/collective_tensors.h"
#include "parallel/comm/mpi_types.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

std::string text_of(int error) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(error, text, &length);
  return {text, static_cast<std::size_t>(length)};
}

MPI_Datatype reducible_type(const char* operation, DType dtype) {
  if (dtype == DType::bf16 || dtype == DType::f8e4m3 || dtype == DType::f8e5m2)
    throw DefectError("mpi: {} does not support {}", operation, name_of(dtype));
  return mpi_type(dtype);
}

MPI_Op mpi_op(ReduceOp op) {
  return op == ReduceOp::sum ? MPI_SUM : op == ReduceOp::max ? MPI_MAX : MPI_MIN;
}

}  // namespace

/// The MPI requests of one communication, and its description for errors.
class MpiCommunicator::Operation final : public Request::Pending {
 public:
  using Kind = FlightRecorder::Kind;

  Operation(MpiCommunicator& communicator, const char* name, std::size_t bytes, int peer = -1, int tag = -1,
            Kind kind = Kind::collective)
      : communicator_(communicator),
        name_(name),
        bytes_(bytes),
        peer_(peer),
        tag_(tag),
        sequence_(communicator.world_.recorder().start(name, communicator.channel_, kind, bytes, peer, tag)) {
  }

  /// Starts one MPI call of the communication: call(&request) returns MPI's error code.
  template <class Call>
  void start(const Call& call) {
    requests_.push_back(MPI_REQUEST_NULL);
    check(call(&requests_.back()));
  }
  /// Throws unless the message has as many bytes as the tensor.
  void expect_all_bytes() { expects_all_bytes_ = true; }

  bool test() override {
    for (; complete_ < requests_.size(); ++complete_) {
      int done = 0;
      MPI_Status status;
      check(MPI_Test(&requests_[complete_], &done, &status));
      if (!done) return false;
      if (expects_all_bytes_) require_all_bytes(status);
    }
    communicator_.world_.recorder().finish(sequence_);
    return true;
  }

  void wait() override {
    if (test()) return;
    const Seconds limit = communicator_.world_.limits().wait;
    const FlightRecorder::Wait waiting(communicator_.world_.recorder(), sequence_, limit);
    const auto done = [&] {
      if (test()) return true;
      communicator_.world_.progress();
      return false;
    };
    if (!poll_until(limit, done))
      throw PeerError("mpi: {}: not complete after {:g} s", description(), limit.count());
  }

 private:
  std::string description() const { return communicator_.describe(name_, bytes_, peer_, tag_); }

  void check(int error) const {
    if (error != MPI_SUCCESS) throw PeerError("mpi: {}: {}", description(), text_of(error));
  }

  void require_all_bytes(const MPI_Status& status) const {
    MPI_Count bytes = 0;
    check(MPI_Get_elements_x(&status, MPI_BYTE, &bytes));
    if (static_cast<std::size_t>(bytes) != bytes_)
      throw PeerError("mpi: {}: the message has {} bytes", description(), static_cast<std::int64_t>(bytes));
  }

  MpiCommunicator& communicator_;
  const char* name_;
  std::size_t bytes_;
  int peer_;
  int tag_;
  std::uint64_t sequence_;
  bool expects_all_bytes_ = false;
  std::size_t complete_ = 0;  // requests before this index are complete
  std::vector<MPI_Request> requests_;
};

namespace {

void require_cpu(const char* operation, const Tensor& tensor) {
  require_device("mpi", operation, tensor, DeviceKind::cpu);
}

/// Calls body(begin, count) for pieces of at most `limit` elements.
template <class Body>
void in_pieces(std::int64_t elements, std::int64_t limit, const Body& body) {
  for (std::int64_t begin = 0; begin < elements; begin += limit)
    body(begin, static_cast<int>(std::min(limit, elements - begin)));
}

}  // namespace

MpiCommunicator::MpiCommunicator(MpiWorld& world, std::string name)
    : MpiCommunicator(world, std::move(name), MPI_COMM_WORLD) {
  barrier();  // waits for late ranks within the time limit
  const int error = without_limit("duplicate", [&] { return MPI_Comm_dup(MPI_COMM_WORLD, &comm_); });
  if (error != MPI_SUCCESS) throw PeerError("mpi: communicator \"{}\": {}", name_, text_of(error));
}

MpiCommunicator::MpiCommunicator(MpiWorld& world, std::string name, MPI_Comm comm)
    : world_(world), name_(std::move(name)), comm_(comm) {
  MPI_Comm_rank(comm, &rank_);
  MPI_Comm_size(comm, &size_);
  std::vector<int> ranks(static_cast<std::size_t>(size_));
  for (int r = 0; r < size_; ++r) ranks[static_cast<std::size_t>(r)] = r;
  world_ranks_.resize(ranks.size());
  MPI_Group group = MPI_GROUP_NULL, all = MPI_GROUP_NULL;
  MPI_Comm_group(comm, &group);
  MPI_Comm_group(MPI_COMM_WORLD, &all);
  MPI_Group_translate_ranks(group, size_, ranks.data(), all, world_ranks_.data());
  MPI_Group_free(&group);
  MPI_Group_free(&all);
  channel_ = world_.recorder().add_channel(name_, world_ranks_);
}

MpiCommunicator::~MpiCommunicator() {
  // After an error peers may be gone, and the job is about to be aborted.
  if (comm_ != MPI_COMM_WORLD && std::uncaught_exceptions() == 0) MPI_Comm_free(&comm_);
}

std::unique_ptr<MpiCommunicator> MpiCommunicator::split(int color, int key, std::string name) {
  barrier();
  MPI_Comm comm = MPI_COMM_NULL;
  const int error = without_limit(
      "split", [&] { return MPI_Comm_split(comm_, color < 0 ? MPI_UNDEFINED : color, key, &comm); });
  if (error != MPI_SUCCESS) throw PeerError("mpi: communicator \"{}\": {}", name, text_of(error));
  if (comm == MPI_COMM_NULL) return nullptr;
  return std::unique_ptr<MpiCommunicator>(new MpiCommunicator(world_, std::move(name), comm));
}

template <class Call>
int MpiCommunicator::without_limit(const char* name, const Call& call) {
  FlightRecorder& recorder = world_.recorder();
  const std::uint64_t number = recorder.start(name, channel_, FlightRecorder::Kind::collective, 0);
  const FlightRecorder::Wait waiting(recorder, number, world_.limits().wait);
  const int error = call();
  recorder.finish(number);
  return error;
}

std::string MpiCommunicator::describe(const char* operation, std::size_t bytes, int peer, int tag) const {
  std::string text = fmt::format("{} of {} bytes", operation, bytes);
  if (peer >= 0) text += fmt::format(", peer rank {} (world rank {})", peer, world_rank_of(peer));
  if (tag >= 0) text += fmt::format(", tag {}", tag);
  return text + fmt::format(", on \"{}\" ({} ranks)", name_, size_);
}

void MpiCommunicator::require_peer(const char* operation, int peer) const {
  if (peer < 0 || peer >= size_)
    throw DefectError("mpi: {}: peer rank {} is out of range, \"{}\" has {} ranks", operation, peer, name_,
                      size_);
}

void MpiCommunicator::require_tag(const char* operation, int tag) const {
  int* limit = nullptr;
  int known = 0;
  MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &limit, &known);
  if (tag < 0 || (known && tag > *limit))
    throw DefectError("mpi: {}: tag {} is not in [0, {}]", operation, tag, known ? *limit : 32767);
}

Request MpiCommunicator::start_send(const Tensor& tensor, int to, int tag) {
  require_cpu("send", tensor);
  require_peer("send", to);
  require_tag("send", tag);
  auto operation = std::make_unique<Operation>(*this, "send", tensor.bytes(), to, tag, Operation::Kind::send);
  const MpiExtent extent(tensor.dtype, tensor.elements(), world_.limits().elements_per_call);
  operation->start([&](MPI_Request* request) {
    return MPI_Isend(tensor.data, extent.count(), extent.type(), to, tag, comm_, request);
  });
  return Request(std::move(operation));
}

Request MpiCommunicator::start_receive(const Tensor& tensor, int from, int tag) {
  require_cpu("receive", tensor);
  require_peer("receive", from);
  require_tag("receive", tag);
  auto operation =
      std::make_unique<Operation>(*this, "receive", tensor.bytes(), from, tag, Operation::Kind::receive);
  const MpiExtent extent(tensor.dtype, tensor.elements(), world_.limits().elements_per_call);
  operation->expect_all_bytes();
  operation->start([&](MPI_Request* request) {
    return MPI_Irecv(tensor.data, extent.count(), extent.type(), from, tag, comm_, request);
  });
  return Request(std::move(operation));
}

// All ranks get the same bits: the MPI standard requires identical results of an all-reduce on all ranks.
Request MpiCommunicator::start_all_reduce(const Tensor& tensor, ReduceOp op) {
  require_cpu("all-reduce", tensor);
  const MPI_Datatype type = reducible_type("all-reduce", tensor.dtype);
  auto operation = std::make_unique<Operation>(*this, "all-reduce", tensor.bytes());
  in_pieces(tensor.elements(), world_.limits().elements_per_call, [&](std::int64_t begin, int count) {
    void* data = tensor.flat(begin, count).data;
    operation->start([&](MPI_Request* request) {
      return MPI_Iallreduce(MPI_IN_PLACE, data, count, type, mpi_op(op), comm_, request);
    });
  });
  return Request(std::move(operation));
}

// Starts one reduction per part, to the part's owner; all run at the same time. Every rank sends each part
// that it does not own once, which is optimal. MPI_Ireduce_scatter_block is not used, because it does not
// allow a result inside `full` and Open MPI's implementation sends the sum of all parts through rank 0.
Request MpiCommunicator::start_reduce_scatter(const Tensor& full, const Tensor& part) {
  const bool in_place = require_own_part("mpi", "reduce-scatter", part, full, *this, DeviceKind::cpu);
  const MPI_Datatype type = reducible_type("reduce-scatter", full.dtype);
  auto operation = std::make_unique<Operation>(*this, "reduce-scatter", full.bytes());
  const std::int64_t part_elements = part.elements();
  for (int owner = 0; owner < size_; ++owner)
    in_pieces(part_elements, world_.limits().elements_per_call, [&](std::int64_t begin, int count) {
      void* from = full.flat(part_elements * owner + begin, count).data;
      void* to = owner == rank_ ? part.flat(begin, count).data : nullptr;
      if (owner == rank_ && in_place) from = MPI_IN_PLACE;
      operation->start([&](MPI_Request* request) {
        return MPI_Ireduce(from, to, count, type, MPI_SUM, owner, comm_, request);
      });
    });
  return Request(std::move(operation));
}

Request MpiCommunicator::start_all_gather(const Tensor& part, const Tensor& full) {
  const bool in_place = require_own_part("mpi", "all-gather", part, full, *this, DeviceKind::cpu);
  auto operation = std::make_unique<Operation>(*this, "all-gather", full.bytes());
  const MpiExtent extent(part.dtype, part.elements(), world_.limits().elements_per_call);
  operation->start([&](MPI_Request* request) {
    return MPI_Iallgather(in_place ? MPI_IN_PLACE : part.data, extent.count(), extent.type(), full.data,
                          extent.count(), extent.type(), comm_, request);
  });
  return Request(std::move(operation));
}

Request MpiCommunicator::start_broadcast(const Tensor& tensor, int root) {
  require_cpu("broadcast", tensor);
  require_peer("broadcast", root);
  auto operation = std::make_unique<Operation>(*this, "broadcast", tensor.bytes(), root);
  const MpiExtent extent(tensor.dtype, tensor.elements(), world_.limits().elements_per_call);
  operation->start([&](MPI_Request* request) {
    return MPI_Ibcast(tensor.data, extent.count(), extent.type(), root, comm_, request);
  });
  return Request(std::move(operation));
}

void MpiCommunicator::barrier() {
  auto operation = std::make_unique<Operation>(*this, "barrier", 0);
  operation->start([&](MPI_Request* request) { return MPI_Ibarrier(comm_, request); });
  Request(std::move(operation)).wait();
}

}  // namespace foretoken
