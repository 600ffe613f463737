#include <algorithm>
#include <chrono>
#include <functional>

#include "launch/doctor/measure.h"
#include "runtime/arena.h"
#include "runtime/error.h"
#include "runtime/operators/parameters/random_normal.h"
#include "runtime/operators/products/linear.h"
#include "runtime/operators/rowwise/elementwise.h"

namespace foretoken {

namespace {

constexpr int repetitions = 6;
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

/// Calls of `work` per second in the fastest of several repetitions that all ranks start together.
/// `while_busy` is called in the middle of one of them.
double highest_rate(Stream& stream, MpiCommunicator& world, const std::function<void()>& work,
                    const std::function<void()>& while_busy) {
  const auto time = [&](int calls, bool look) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < calls; ++i) {
      work();
      if (look && i == calls / 2) while_busy();
    }
    stream.synchronize();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    return std::max(seconds.count(), 1e-9);
  };
  time(1, false);  // the first call selects algorithms and touches memory
  const int calls = static_cast<int>(std::clamp(shortest / time(1, false), 1.0, 1e5)) + 1;
  double best = 0;
  for (int i = 0; i < repetitions; ++i) {
    world.barrier();
    best = std::max(best, calls / time(calls, i == repetitions / 2));
  }
  return best;
}

double matrix_rate(Device& device, MpiCommunicator& world, const std::function<void()>& while_busy) {
  Stream& stream = device.stream();
  const bool gpu = stream.device() == DeviceKind::cuda;
  const DType dtype = gpu ? DType::bf16 : DType::f32;
  const std::int64_t size = gpu ? 8192 : 1024;
  Arena arena(stream.device());
  const Tensor x = random_matrix(stream, arena, dtype, size, "x");
  const Tensor weight = random_matrix(stream, arena, dtype, size, "weight");
  const Tensor out = arena.tensor(dtype, {size, size});
  const double rate = highest_rate(
      stream, world, [&] { linear_forward(stream, {.x = x, .weight = weight, .out = out}); }, while_busy);
  const auto n = static_cast<double>(size);
  return rate * 2 * n * n * n;
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
  return 3 * static_cast<double>(bytes) *
         highest_rate(
             stream, world, [&] { add(stream, x, out); }, [] {});
}

}  // namespace

DeviceFacts measure_device(Device& device, const Nvml& nvml, MpiCommunicator& world) {
  DeviceFacts facts{.name = device.name(),
                    .pci_address = device.pci_address(),
                    .visible_gpus = Device::gpus(),
                    .machine_gpus = nvml.gpus(),
                    .nvml_problem = nvml.problem()};
  facts.matrix_rate = matrix_rate(device, world, [&] {
    if (!facts.pci_address.empty()) facts.state = nvml.state(facts.pci_address);
  });
  facts.memory_bandwidth = memory_bandwidth(device, world);
  return facts;
}

}  // namespace foretoken
