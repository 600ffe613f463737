// Compares communication between GPUs with a serial computation, over every transport that the machine
// supports.

#include <array>
#include <chrono>
#include <cmath>
#include <thread>

#include "parallel/comm/cuda/nccl_link.h"
#include "parallel/comm/groups.h"
#include "runtime/random.h"
#include "tests/multi_rank/gpu.h"

using namespace foretoken;
using multi_rank::Gpu;

namespace {

/// The values of rank r before a collective; every rank can compute the values of all ranks. Sums of small
/// integers are exact in any order and in every dtype.
template <class T>
std::vector<T> values_of(int rank, std::int64_t count) {
  const CounterRng rng(7, "rank " + std::to_string(rank));
  std::vector<T> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<T>(static_cast<float>(rng.u64(i) % 50));
  return values;
}

template <class T>
std::vector<T> reduced(int ranks, std::int64_t count, ReduceOp op) {
  std::vector<T> result = values_of<T>(0, count);
  for (int r = 1; r < ranks; ++r) {
    const auto other = values_of<T>(r, count);
    for (std::size_t i = 0; i < other.size(); ++i) {
      const float a = static_cast<float>(result[i]), b = static_cast<float>(other[i]);
      result[i] = static_cast<T>(op == ReduceOp::sum   ? a + b
                                 : op == ReduceOp::max ? std::max(a, b)
                                                       : std::min(a, b));
    }
  }
  return result;
}

template <class T>
std::vector<T> part_of(const std::vector<T>& whole, int rank, std::int64_t part) {
  const auto begin = whole.begin() + rank * part;
  return {begin, begin + part};
}

/// Compares without printing the elements, of which there may be millions.
template <class T>
bool same(const std::vector<T>& is, const std::vector<T>& expected) {
  return is.size() == expected.size() && std::equal(is.begin(), is.end(), expected.begin(), [](T a, T b) {
           return static_cast<double>(static_cast<float>(a)) == static_cast<double>(static_cast<float>(b));
         });
}

/// Calls body(communicator, transport) for each of the machine's transports.
template <class Body>
void over_transports(Gpu& gpu, const Traffic& traffic, const Body& body) {
  for (const auto& transport : gpu.transports()) {
    INFO(transport->description());
    const auto all = multi_rank::connect(*transport, traffic);
    body(*all, *transport);
    transport->synchronize();
  }
}

constexpr std::array<std::int64_t, 4> sizes{0, 1, 1000, 1 << 20};

}  // namespace

TEMPLATE_TEST_CASE("an all-reduce on GPUs equals the serial reduction", "[gpu][ranks1][ranks2][ranks4]",
                   float, double, std::int32_t, std::int64_t, std::uint8_t, BFloat16) {
  Gpu gpu;
  const int ranks = multi_rank::world().size(), rank = multi_rank::world().rank();
  over_transports(gpu, {.collectives = true}, [&](Communicator& all, Transport& transport) {
    if (dtype_of<TestType>() == DType::bf16 && !transport.description().starts_with("NCCL")) {
      CHECK_THROWS_WITH(all.all_reduce(gpu.upload(values_of<TestType>(rank, 8))),
                        testing::contains("all-reduce") && testing::contains("does not support bf16"));
      return;
    }
    for (const std::int64_t count : sizes)
      for (const ReduceOp op : {ReduceOp::sum, ReduceOp::max, ReduceOp::min}) {
        const Tensor tensor = gpu.upload(values_of<TestType>(rank, count));
        all.all_reduce(tensor, op);
        CAPTURE(count, static_cast<int>(op));
        CHECK(same(gpu.download<TestType>(tensor), reduced<TestType>(ranks, count, op)));
      }
  });
}

TEST_CASE("a reduce-scatter and an all-gather on GPUs equal the serial result, in place and out of place",
          "[gpu][ranks1][ranks2][ranks4]") {
  Gpu gpu;
  const int ranks = multi_rank::world().size(), rank = multi_rank::world().rank();
  const bool in_place = GENERATE(true, false);
  over_transports(gpu, {.collectives = true}, [&](Communicator& all, Transport&) {
    for (const std::int64_t part : sizes) {
      CAPTURE(part, in_place);
      const auto sums = reduced<float>(ranks, part * ranks, ReduceOp::sum);
      const Tensor full = gpu.upload(values_of<float>(rank, part * ranks));
      const Tensor own = in_place ? full.flat(part * rank, part) : gpu.upload(values_of<float>(9, part));
      all.start_reduce_scatter(full, own).wait();
      CHECK(same(gpu.download<float>(own), part_of(sums, rank, part)));
      all.all_gather(own, full);
      CHECK(same(gpu.download<float>(full), sums));
    }
  });
}

TEMPLATE_TEST_CASE("a broadcast on GPUs reaches all ranks from every root", "[gpu][ranks1][ranks2][ranks4]",
                   float, BFloat16, std::uint16_t, std::int64_t) {
  Gpu gpu;
  over_transports(gpu, {.collectives = true}, [&](Communicator& all, Transport&) {
    for (const std::int64_t count : sizes)
      for (int root = 0; root < all.size(); ++root) {
        const Tensor tensor = gpu.upload(values_of<TestType>(all.rank(), count));
        all.broadcast(tensor, root);
        CHECK(same(gpu.download<TestType>(tensor), values_of<TestType>(root, count)));
      }
  });
}

TEST_CASE("neighbours on GPUs send in both directions at once, and each direction keeps its order",
          "[gpu][ranks2][ranks4]") {
  Gpu gpu;
  const int ranks = multi_rank::world().size(), rank = multi_rank::world().rank();
  const int up = (rank + 1) % ranks, down = (rank + ranks - 1) % ranks;
  const std::int64_t count = GENERATE(0, 3, 1 << 20);
  constexpr int rounds = 8;
  over_transports(gpu, {.neighbour_messages = true, .ring = true},
                  [&](Communicator& all, Transport& transport) {
                    std::vector<Tensor> from_below, from_above;
                    std::vector<Request> requests;
                    for (int i = 0; i < rounds; ++i) {  // even tags go downstream, odd tags upstream
                      const Tensor up_going = gpu.upload(values_of<float>(100 * rank + i, count)),
                                   down_going = gpu.upload(values_of<float>(100 * rank + 50 + i, count));
                      from_below.push_back(gpu.upload(values_of<float>(9, count)));
                      from_above.push_back(gpu.upload(values_of<float>(9, count)));
                      requests.push_back(all.start_send(up_going, up, 2 * i));
                      requests.push_back(all.start_send(down_going, down, 2 * i + 1));
                      requests.push_back(all.start_receive(from_below.back(), down, 2 * i));
                      requests.push_back(all.start_receive(from_above.back(), up, 2 * i + 1));
                    }
                    for (Request& request : requests) request.wait();
                    transport.synchronize();
                    for (int i = 0; i < rounds; ++i) {
                      CHECK(same(gpu.download<float>(from_below[static_cast<std::size_t>(i)]),
                                 values_of<float>(100 * down + i, count)));
                      CHECK(same(gpu.download<float>(from_above[static_cast<std::size_t>(i)]),
                                 values_of<float>(100 * up + 50 + i, count)));
                    }
                  });
}

TEST_CASE("on a GPU a tensor may be written again once wait() returned or test() returned true",
          "[gpu][ranks2]") {
  Gpu gpu;
  const bool tests = GENERATE(false, true);
  constexpr std::int64_t count = 1 << 20;
  constexpr int rounds = 10;
  const int other = 1 - multi_rank::world().rank();
  const Tensor sent = gpu.upload(values_of<float>(9, count)),
               received = gpu.upload(values_of<float>(9, count));
  std::vector<Tensor> seen;
  for (int i = 0; i < rounds; ++i) seen.push_back(gpu.upload(values_of<float>(9, count)));
  over_transports(gpu, {.neighbour_messages = true}, [&](Communicator& all, Transport& transport) {
    const auto complete = [&](Request& request) {
      if (!tests) return request.wait();
      CHECK(poll_until(Seconds{30}, [&] { return request.test(); }));
    };
    for (int i = 0; i < rounds; ++i) {
      fill(gpu.stream(), sent, 10 * all.rank() + i);
      Request send = all.start_send(sent, other, 0), receive = all.start_receive(received, other, 0);
      complete(receive);
      copy(gpu.stream(), received, seen[static_cast<std::size_t>(i)]);
      complete(send);
    }
    transport.synchronize();
    for (int i = 0; i < rounds; ++i)
      CHECK(same(gpu.download<float>(seen[static_cast<std::size_t>(i)]),
                 std::vector<float>(count, static_cast<float>(10 * other + i))));
  });
}

TEST_CASE("a GPU that lags behind its host receives every message", "[gpu][ranks2]") {
  Gpu gpu;
  constexpr std::int64_t count = 1000;
  constexpr int rounds = 10;
  const Tensor message = gpu.upload(values_of<float>(9, count)),
               work = gpu.upload(std::vector<float>(std::size_t{1} << 24));
  std::vector<Tensor> seen;
  for (int i = 0; i < rounds; ++i) seen.push_back(gpu.upload(values_of<float>(9, count)));
  over_transports(gpu, {.neighbour_messages = true}, [&](Communicator& all, Transport& transport) {
    for (int i = 0; i < rounds; ++i) {
      if (all.rank() == 0) {
        fill(gpu.stream(), message, i);
        all.send(message, 1, 0);
        continue;
      }
      for (int busy = 0; busy < 10; ++busy) fill(gpu.stream(), work, busy);
      all.receive(message, 0, 0);
      copy(gpu.stream(), message, seen[static_cast<std::size_t>(i)]);
    }
    transport.synchronize();
    for (int i = 0; i < rounds && all.rank() == 1; ++i)
      CHECK(same(gpu.download<float>(seen[static_cast<std::size_t>(i)]),
                 std::vector<float>(count, static_cast<float>(i))));
  });
}

TEST_CASE("a host collective between staged ones is not matched with them", "[gpu][ranks2][ranks4]") {
  Gpu gpu;
  over_transports(gpu, {.collectives = true}, [&](Communicator& all, Transport&) {
    const Tensor first = gpu.upload(values_of<float>(all.rank(), 1 << 20)),
                 second = gpu.upload(values_of<float>(all.rank(), 100));
    Request large = all.start_all_reduce(first, ReduceOp::sum),
            small = all.start_all_reduce(second, ReduceOp::max);
    if (all.rank() == 0) large.wait();  // so that the ranks notice the end of their copies at different times
    std::int32_t count = 1;
    all.host().all_reduce(tensor_over(std::span(&count, 1), {1}));
    CHECK(count == all.size());
    small.wait();
    large.wait();
    CHECK(same(gpu.download<float>(first), reduced<float>(all.size(), 1 << 20, ReduceOp::sum)));
    CHECK(same(gpu.download<float>(second), reduced<float>(all.size(), 100, ReduceOp::max)));
  });
}

// Over NCCL the rank is unusable after this error; tests/gpu/training_test.cpp tests that in a run of its
// own.
TEST_CASE("a staged receive without a send names the peer after the time limit", "[gpu][ranks2]") {
  Gpu gpu;
  MpiCommunicator& world = multi_rank::world();
  const Tensor tensor = gpu.upload(values_of<float>(0, 16));
  cuda::StagedTransport transport(world.world(), gpu.stream(), "asked for");
  const auto all = multi_rank::connect(transport, {.neighbour_messages = true});
  if (world.rank() == 0) {
    world.world().limits().wait = Seconds{0.5};
    CHECK_THROWS_WITH(all->receive(tensor, 1, 0),
                      testing::contains("receive of 64 bytes, peer rank 1 (world rank 1)") &&
                          testing::contains("not complete after 0.5 s"));
    world.world().limits().wait = Seconds{60};
  }
  world.barrier();
  // Send the message now: MPI still waits for it.
  if (world.rank() == 1) all->send(tensor, 0, 0);
  world.barrier();
}

TEST_CASE("GPU communicators refuse operations that they do not support", "[gpu][ranks1][ranks2]") {
  Gpu gpu;
  std::vector<float> values(4);
  const Tensor host = tensor_over(std::span(values), {4}), device = gpu.upload(values);
  over_transports(gpu, {.collectives = true, .neighbour_messages = true},
                  [&](Communicator& all, Transport& transport) {
                    CHECK_THROWS_AS(all.start_send(device, all.size(), 0), DefectError);
                    CHECK_THROWS_AS(all.start_broadcast(device, all.size()), DefectError);
                    CHECK_THROWS_AS(all.start_all_gather(device.flat(0, 3), device), DefectError);
                    if (transport.description().starts_with("NCCL"))
                      CHECK_THROWS_WITH(all.all_reduce(host), testing::contains("not on the GPU"));
                    else
                      CHECK_NOTHROW(all.all_reduce(host));
                  });
}

TEST_CASE("an NCCL link of one rank starts, reduces and ends", "[gpu][ranks1]") {
  Gpu gpu;
  cuda::NcclTransport transport(multi_rank::world().world(), gpu.stream());
  cuda::NcclLink::Members members;
  REQUIRE(ncclGetUniqueId(&members.id) == ncclSuccess);
  MpiCommunicator& world = multi_rank::world();
  const int channel = world.world().recorder().add_channel("a link", {0});
  cuda::NcclLink link(transport, world, channel, members);
  const Tensor tensor = gpu.upload(values_of<float>(0, 1000));
  Request request =
      link.start("all-reduce", tensor.bytes(), -1, [&](ncclComm_t communicator, cudaStream_t on) {
        return ncclAllReduce(tensor.data, tensor.data, 1000, ncclFloat32, ncclSum, communicator, on);
      });
  request.wait();
  transport.synchronize();
  CHECK(link.oldest() == cuda::NcclLink::none);
  CHECK(same(gpu.download<float>(tensor), values_of<float>(0, 1000)));
  const auto last = multi_rank::world().world().recorder().record().operations.back();
  CHECK(last.name == "all-reduce");
  CHECK(last.finished >= last.started);
}

TEST_CASE("groups on GPUs describe their transport", "[gpu][ranks1][ranks2][ranks4]") {
  Gpu gpu;
  MpiCommunicator& world = multi_rank::world();
  const Groups groups = make_groups(world, {.pp = world.size(), .dp = 1}, gpu.stream());
  const bool share = world.size() > Device::gpus();
  CHECK_THAT(groups.transport->description(),
             testing::contains(share ? "messages through host memory: ranks 0" : "NCCL 2."));
  const Tensor sum = gpu.upload(std::vector<double>{static_cast<double>(world.rank() + 1)});
  groups.device_world->all_reduce(sum);
  groups.transport->synchronize();
  CHECK(gpu.download<double>(sum).front() == world.size() * (world.size() + 1) / 2);
}

TEST_CASE("two GPU ranks of a machine start a message together, in either order of arrival",
          "[gpu][ranks2]") {
  Gpu gpu;
  MpiCommunicator& world = multi_rank::world();
  const int peer = 1 - world.rank();
  const auto handshake = cuda::Handshake::connect(world, peer, 0, world.rank() == 0);
  REQUIRE(handshake != nullptr);
  const cudaStream_t stream = gpu.stream().cuda().stream();
  for (int message = 0; message < 4; ++message) {
    const bool first = message % 2 == world.rank();
    if (!first) world.barrier();
    handshake->enqueue(stream);
    if (first) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      CHECK(cudaStreamQuery(stream) == cudaErrorNotReady);
      cudaGetLastError();
      world.barrier();
    }
    CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  }
}
