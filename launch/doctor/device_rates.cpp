#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <functional>

#include "launch/doctor/checks.h"
#include "launch/doctor/measure.h"
#include "runtime/arena.h"
#include "runtime/error.h"
#include "runtime/operators/parameters/random_normal.h"
#include "runtime/operators/products/linear.h"
#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken {

namespace {

constexpr int repetitions = 6;  // of a round
constexpr int most_rounds = 3;

constexpr double shortest = 0.12;  // seconds of one repetition: many time slices of the scheduler

/// Random numbers, because the power that a GPU needs depends on the values.
Tensor random_matrix(Stream& stream, Arena& arena, DType dtype, std::int64_t size, const char* name) {
  const Tensor exact = arena.tensor(DType::f32, {size, size});
  random_normal(stream, {.out = exact, .rng = CounterRng(1, name)});
  if (dtype == DType::f32) return exact;
  const Tensor rounded = arena.tensor(dtype, {size, size});
  convert(stream, exact, rounded);
  return rounded;
}

struct Rate {
  double per_second = 0;  // calls
  double core_share = 1;  // of the threads' time, in which they ran on a core
};

double core_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Whether more repetitions are worth their time: the slowest rank is not nearly as fast as the fastest one,
/// and no rank has measured for long, as ranks that share cores do.
bool repeat(double own_rate, Seconds elapsed, Communicator& world) {
  constexpr Seconds longest{3};
  std::array<double, 3> extremes{own_rate, -own_rate, -elapsed.count()};
  world.all_reduce(tensor_over<double>(extremes, {3}), ReduceOp::min);
  const auto [slowest, fastest, time] = std::array{extremes[0], -extremes[1], -extremes[2]};
  return slowest < (1 - SpeedLimits{}.warning) * fastest && time < longest.count();
}

/// The fastest of several repetitions that all ranks start together. If the ranks differ, more of them are
/// made, so that a short disturbance is not taken for a slow device. `while_busy` is called in the middle of
/// some repetitions.
Rate highest_rate(Stream& stream, MpiCommunicator& world, const std::function<void()>& work,
                  const std::function<void()>& while_busy) {
  const auto time = [&](int calls, bool look) {
    const double on_cores = core_seconds();
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < calls; ++i) {
      work();
      if (look && i == calls / 2) while_busy();
    }
    stream.synchronize();
    const std::chrono::duration<double> duration = std::chrono::steady_clock::now() - begin;
    const double seconds = std::max(duration.count(), 1e-9);
    return Rate{calls / seconds, (core_seconds() - on_cores) / (seconds * stream.threads().threads())};
  };
  time(1, false);  // the first call selects algorithms and touches memory
  const int calls = static_cast<int>(std::clamp(shortest * time(1, false).per_second, 1.0, 1e5)) + 1;
  const auto start = std::chrono::steady_clock::now();
  Rate best;
  for (int round = 0; round < most_rounds; ++round) {
    for (int i = 0; i < repetitions; ++i) {
      world.barrier();
      if (const Rate rate = time(calls, i == repetitions / 2); rate.per_second > best.per_second) best = rate;
    }
    if (!repeat(best.per_second, std::chrono::steady_clock::now() - start, world)) break;
  }
  return best;
}

void measure_products(Device& device, MpiCommunicator& world, const std::function<void()>& while_busy,
                      DeviceFacts& facts) {
  Stream& stream = device.stream();
  const bool gpu = stream.device() == DeviceKind::cuda;
  const DType dtype = gpu ? DType::bf16 : DType::f32;
  const std::int64_t size = gpu ? 8192 : 1024;
  Arena arena(stream.device());
  const Tensor x = random_matrix(stream, arena, dtype, size, "x");
  const Tensor weight = random_matrix(stream, arena, dtype, size, "weight");
  const Tensor out = arena.tensor(dtype, {size, size});
  const Rate rate = highest_rate(
      stream, world, [&] { linear_forward(stream, {.x = x, .weight = weight, .out = out}); }, while_busy);
  const auto n = static_cast<double>(size);
  facts.matrix_rate = rate.per_second * 2 * n * n * n;
  if (!gpu) facts.core_share = rate.core_share;
}

double memory_bandwidth(Device& device, MpiCommunicator& world) {
  Stream& stream = device.stream();
  const bool gpu = stream.device() == DeviceKind::cuda;
  // Larger than caches; on a CPU the ranks of a machine together need at most 2 GiB.
  const std::int64_t bytes =
      gpu ? std::int64_t{512} << 20
          : std::max(std::int64_t{16} << 20,
                     (std::int64_t{1} << 30) / std::max(world.world().local_ranks(), 8));
  Arena arena(stream.device());
  const Tensor x = arena.tensor(DType::f32, {bytes / 4}), out = arena.tensor(DType::f32, {bytes / 4});
  // out += x reads both and writes one.
  const Rate rate = highest_rate(
      stream, world, [&] { add(stream, x, out); }, [] {});
  return 3 * static_cast<double>(bytes) * rate.per_second;
}

}  // namespace

DeviceFacts measure_device(Device& device, const Nvml& nvml, MpiCommunicator& world) {
  DeviceFacts facts{.name = device.name(),
                    .pci_address = device.pci_address(),
                    .visible_gpus = Device::gpus(),
                    .machine_gpus = nvml.gpus(),
                    .nvml_problem = nvml.problem()};
  const auto look = [&] {
    if (!facts.pci_address.empty()) facts.state = nvml.state(facts.pci_address);
  };
  measure_products(device, world, look, facts);
  facts.memory_bandwidth = memory_bandwidth(device, world);
  return facts;
}

}  // namespace foretoken
