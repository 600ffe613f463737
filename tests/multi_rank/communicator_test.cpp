#include <cstdint>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <sstream>
#include <unistd.h>
#include <vector>

#include "runtime/error.h"
#include "runtime/random.h"
#include "tests/support/multi_rank.h"

using namespace foretoken;

namespace {

/// The values of rank r before a collective; every rank can compute the values of all ranks.
template <class T>
std::vector<T> values_of(int rank, std::int64_t count) {
  const CounterRng rng(7, "rank " + std::to_string(rank));
  std::vector<T> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = std::is_floating_point_v<T> ? static_cast<T>(rng.normal(i)) : static_cast<T>(rng.u64(i) % 50);
  return values;
}

template <class T>
Tensor all_of(std::vector<T>& values) {
  return tensor_over(std::span<T>(values), {static_cast<std::int64_t>(values.size())});
}

}  // namespace

TEMPLATE_TEST_CASE("an all-reduce computes sum, maximum and minimum", "[ranks1][ranks2][ranks3][ranks4]",
                   float, double, std::int32_t, std::int64_t, std::uint8_t, std::uint16_t, std::uint32_t) {
  MpiCommunicator& world = multi_rank::world();
  const auto own = values_of<TestType>(world.rank(), 1000);
  for (const ReduceOp op : {ReduceOp::sum, ReduceOp::max, ReduceOp::min}) {
    std::vector<TestType> expected = values_of<TestType>(0, 1000);
    for (int r = 1; r < world.size(); ++r) {
      const auto other = values_of<TestType>(r, 1000);
      for (std::size_t i = 0; i < other.size(); ++i)
        expected[i] = op == ReduceOp::sum   ? static_cast<TestType>(expected[i] + other[i])
                      : op == ReduceOp::max ? std::max(expected[i], other[i])
                                            : std::min(expected[i], other[i]);
    }
    std::vector<TestType> result = own;
    world.all_reduce(all_of(result), op);
    for (std::size_t i = 0; i < result.size(); ++i)
      if (!(std::abs(static_cast<double>(result[i]) - static_cast<double>(expected[i])) <= 2e-6)) {
        CAPTURE(i, result[i], expected[i]);
        FAIL_CHECK("differs");
        break;
      }
  }
}

TEST_CASE("an all-reduce has the same bits on every rank", "[ranks2][ranks3][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  // Small and large: an MPI library may use different algorithms for them.
  for (const std::int64_t count : {3, 1000, 300001}) {
    auto sums = values_of<float>(world.rank(), count);
    world.all_reduce(all_of(sums));
    std::vector<float> everyones(sums.size() * static_cast<std::size_t>(world.size()));
    world.all_gather(all_of(sums), all_of(everyones));
    for (int r = 0; r < world.size(); ++r)
      CHECK(std::equal(sums.begin(), sums.end(), everyones.begin() + r * count));
  }
}

TEST_CASE("a reduce-scatter gives each rank the sum of its part", "[ranks1][ranks2][ranks3][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const std::int64_t part = GENERATE(1, 77, 20000);
  const bool in_place = GENERATE(true, false);
  std::vector<double> expected(static_cast<std::size_t>(part * world.size()));
  for (int r = 0; r < world.size(); ++r) {
    const auto other = values_of<double>(r, part * world.size());
    for (std::size_t i = 0; i < other.size(); ++i) expected[i] += other[i];
  }
  auto full = values_of<double>(world.rank(), part * world.size());
  std::vector<double> apart(static_cast<std::size_t>(part));
  const Tensor result = in_place ? all_of(full).flat(part * world.rank(), part) : all_of(apart);
  world.start_reduce_scatter(all_of(full), result).wait();
  double worst = 0;
  for (std::int64_t i = 0; i < part; ++i)
    worst = std::max(worst, std::abs(result.as<double>()[i] -
                                     expected[static_cast<std::size_t>(part * world.rank() + i)]));
  CHECK(worst < 1e-14);
}

TEST_CASE("an all-gather puts the parts in rank order", "[ranks1][ranks2][ranks3][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const bool in_place = GENERATE(true, false);
  constexpr std::int64_t part = 1234;
  std::vector<float> expected;
  for (int r = 0; r < world.size(); ++r) {
    const auto other = values_of<float>(r, part);
    expected.insert(expected.end(), other.begin(), other.end());
  }
  auto own = values_of<float>(world.rank(), part);
  std::vector<float> full(expected.size(), -1);
  const Tensor place = all_of(full).flat(part * world.rank(), part);
  if (in_place) std::copy(own.begin(), own.end(), place.as<float>());
  world.all_gather(in_place ? place : all_of(own), all_of(full));
  CHECK(full == expected);
}

TEST_CASE("a broadcast reaches all ranks, from every root and for every dtype",
          "[ranks1][ranks2][ranks3][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  for (int root = 0; root < world.size(); ++root) {
    auto values = values_of<std::uint16_t>(world.rank(), 100);
    Tensor tensor = all_of(values);
    tensor.dtype = root == 0 ? DType::bf16 : DType::u16;
    world.broadcast(tensor, root);
    CHECK(values == values_of<std::uint16_t>(root, 100));
  }
}

TEST_CASE("messages of one tag arrive in order, and tags are independent", "[ranks2][ranks3][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const int next = (world.rank() + 1) % world.size(),
            previous = (world.rank() + world.size() - 1) % world.size();
  std::vector<std::vector<float>> out, in;
  for (int i = 0; i < 6; ++i) {
    out.push_back(values_of<float>(world.rank() * 10 + i, 5000));
    in.emplace_back(5000);
  }
  std::vector<Request> requests;
  for (int i = 5; i >= 0; --i)  // tag 1 before tag 0, each tag in order
    requests.push_back(
        world.start_receive(all_of(in[static_cast<std::size_t>((5 - i) % 3 + i / 3 * 3)]), previous, i / 3));
  for (int i = 0; i < 6; ++i)
    requests.push_back(world.start_send(all_of(out[static_cast<std::size_t>(i)]), next, i / 3));
  for (Request& request : requests) {
    request.wait();
    CHECK_FALSE(request.active());
  }
  for (int i = 0; i < 6; ++i)
    CHECK(in[static_cast<std::size_t>(i)] == values_of<float>(previous * 10 + i, 5000));
}

TEST_CASE("several pending collectives do not mix", "[ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  constexpr int count = 16;
  std::vector<std::vector<std::int64_t>> sums;
  std::vector<Request> requests;
  for (int i = 0; i < count; ++i) sums.emplace_back(100, (world.rank() + 1) * (i + 1));
  for (auto& sum : sums) requests.push_back(world.start_all_reduce(all_of(sum), ReduceOp::sum));
  for (auto request = requests.rbegin(); request != requests.rend(); ++request) request->wait();
  const int ranks = world.size();
  for (int i = 0; i < count; ++i)
    CHECK(sums[static_cast<std::size_t>(i)] ==
          std::vector<std::int64_t>(100, (i + 1) * ranks * (ranks + 1) / 2));
}

TEST_CASE("tensors longer than the limit of one MPI call arrive complete", "[ranks1][ranks2][ranks3]") {
  MpiCommunicator& world = multi_rank::world();
  world.world().limits().elements_per_call = GENERATE(1, 7, 64);
  const int ranks = world.size();
  constexpr std::int64_t part = 65;
  const std::int64_t whole = part * ranks;

  auto broadcast = values_of<double>(world.rank(), part);
  world.broadcast(all_of(broadcast), ranks - 1);
  CHECK(broadcast == values_of<double>(ranks - 1, part));

  std::vector<std::int64_t> sum(static_cast<std::size_t>(whole), world.rank());
  std::iota(sum.begin(), sum.end(), world.rank());
  std::vector<std::int64_t> scattered = sum;
  world.all_reduce(all_of(sum));
  bool right = true;
  for (std::int64_t i = 0; i < whole; ++i)
    right = right && sum[static_cast<std::size_t>(i)] == ranks * i + ranks * (ranks - 1) / 2;
  CHECK(right);

  const Tensor own = all_of(scattered).flat(part * world.rank(), part);
  world.start_reduce_scatter(all_of(scattered), own).wait();
  world.all_gather(own, all_of(scattered));
  CHECK(scattered == sum);

  auto message = values_of<std::uint8_t>(world.rank(), part), arrived = message;
  Request send = world.start_send(all_of(message), (world.rank() + 1) % ranks, 0);
  const int previous = (world.rank() + ranks - 1) % ranks;
  world.receive(all_of(arrived), previous, 0);
  send.wait();
  CHECK(arrived == values_of<std::uint8_t>(previous, part));
}

TEST_CASE("a split creates groups in the order of the keys", "[ranks1][ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  const auto group = world.split(world.rank() % 2, -world.rank(), "parity");
  REQUIRE(group);
  CHECK(group->name() == "parity");
  CHECK(group->size() == (world.size() + 1) / 2);
  CHECK(group->world_rank_of(group->rank()) == world.rank());
  for (int r = 1; r < group->size(); ++r) CHECK(group->world_rank_of(r) < group->world_rank_of(r - 1));

  const auto first_only = world.split(world.rank() == 0 ? 0 : -1, 0, "first");
  CHECK((first_only != nullptr) == (world.rank() == 0));
  if (first_only) CHECK(first_only->size() == 1);
}

TEST_CASE("a peer that never sends is named after the time limit", "[ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  const auto pair = world.split(0, -world.rank(), "pipeline of dp0");
  world.world().limits().wait = Seconds{0.2};
  std::vector<float> values(16);
  std::string message;
  if (world.rank() == 0) {
    Request request = pair->start_receive(all_of(values), 0, 5);
    try {
      request.wait();
    } catch (const PeerError& error) {
      message = error.what();
    }
    CHECK(
        message ==
        "mpi: receive of 64 bytes, peer rank 0 (world rank 1), tag 5, on \"pipeline of dp0\" (2 ranks): not "
        "complete after 0.2 s");
  }
  // Send the message now, so that no request remains.
  world.world().limits().wait = Seconds{30};
  world.barrier();
  if (world.rank() == 1) pair->send(all_of(values), 1, 5);
  world.barrier();
}

TEST_CASE("a message of the wrong length is an error", "[ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  std::vector<float> three(3), four(4);
  if (world.rank() == 0) {
    world.send(all_of(three), 1, 0);
    world.send(all_of(four), 1, 1);
  } else {
    CHECK_THROWS_WITH(world.receive(all_of(four), 0, 0), testing::contains("the message has 12 bytes"));
    CHECK_THROWS_WITH(world.receive(all_of(three), 0, 1), testing::contains("MPI_ERR_TRUNCATE"));
  }
}

TEST_CASE("invalid arguments are refused before anything is sent", "[ranks1][ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  std::vector<float> values(8);
  const Tensor tensor = all_of(values);
  CHECK_THROWS_AS(world.start_send(tensor, world.size(), 0), DefectError);
  CHECK_THROWS_AS(world.start_receive(tensor, -1, 0), DefectError);
  CHECK_THROWS_AS(world.start_send(tensor, 0, -1), DefectError);
  CHECK_THROWS_AS(world.start_broadcast(tensor, world.size()), DefectError);
  CHECK_THROWS_AS(world.start_reduce_scatter(tensor, tensor.flat(0, 3)), DefectError);
  CHECK_THROWS_AS(world.start_all_gather(tensor.flat(0, 3), tensor), DefectError);
  Tensor half = tensor.flat(0, 4);
  half.dtype = DType::bf16;
  CHECK_THROWS_AS(world.start_all_reduce(half, ReduceOp::sum), DefectError);
  Tensor elsewhere = tensor;
  elsewhere.device = DeviceKind::cuda;
  CHECK_THROWS_AS(world.start_all_reduce(elsewhere, ReduceOp::sum), DefectError);
}

TEST_CASE("the flight recorder records the pending operations", "[ranks1][ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  std::vector<float> values(8);
  Request request = world.start_all_reduce(all_of(values), ReduceOp::sum);
  FlightRecorder& recorder = world.world().recorder();
  const FlightRecord during = recorder.record();
  const FlightRecord::Operation& last = during.operations.back();
  CHECK(last.name == "all-reduce");
  CHECK(during.channels.at(static_cast<std::size_t>(last.channel)).name.starts_with("world"));
  CHECK(last.bytes == 32);
  CHECK(last.finished < 0);
  CHECK(!during.waiting);
  request.wait();
  CHECK(recorder.record().operations.back().finished >= last.started);
}
