#include "parallel/comm/link_rates.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <span>

namespace foretoken {

namespace {

constexpr int repetitions = 5;
constexpr int short_messages = 50;  // per repetition; one of them is shorter than a clock reading is exact
constexpr int tag = 0;

/// Seconds of the fastest call of `work`, after one call that is not timed. All ranks of the group start each
/// call together.
template <class Work>
double fastest(Communicator& group, Transport& transport, const Work& work) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i <= repetitions; ++i) {
    group.host().barrier();
    const auto begin = std::chrono::steady_clock::now();
    work();
    transport.synchronize();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    if (i > 0) best = std::min(best, time.count());
  }
  return best;
}

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

std::optional<Link> measure_next_link(Communicator& pipeline, Transport& transport, const Tensor& buffer) {
  const int rank = pipeline.rank();
  std::optional<Link> result;
  for (const int parity : {0, 1}) {
    const bool leads = rank % 2 == parity;
    const int peer = leads ? rank + 1 : rank - 1;
    const bool takes_part = peer >= 0 && peer < pipeline.size();
    /// Sends a message to the next rank and back, `times` times.
    const auto bounce = [&](const Tensor& message, int times) {
      if (!takes_part) return;
      for (int i = 0; i < times; ++i) {
        if (leads) pipeline.send(message, peer, tag);
        pipeline.receive(message, peer, tag);
        if (!leads) pipeline.send(message, peer, tag);
      }
    };
    const Tensor one = buffer.flat(0, 1);
    const double latency =
        fastest(pipeline, transport, [&] { bounce(one, short_messages); }) / (2.0 * short_messages);
    const double one_way = fastest(pipeline, transport, [&] { bounce(buffer, 1); }) / 2;
    // A disturbed measurement of the latency must not make the bandwidth look better than twice the measured.
    if (leads && takes_part)
      result = Link{.latency = latency,
                    .bandwidth = static_cast<double>(buffer.bytes()) /
                                 std::max({one_way - latency, one_way / 2, 1e-9})};
  }
  return result;
}

Link measure_all_reduce(Communicator& group, Transport& transport, const Tensor& buffer) {
  if (group.size() == 1) return {.latency = 0, .bandwidth = 0};
  const Tensor one = buffer.flat(0, 1);
  const double latency = fastest(group, transport,
                                 [&] {
                                   for (int i = 0; i < short_messages; ++i) group.all_reduce(one);
                                 }) /
                         short_messages;
  const double time = fastest(group, transport, [&] { group.all_reduce(buffer); });
  const double sent =
      2.0 * (group.size() - 1) / group.size() * static_cast<double>(buffer.bytes());  // by each rank
  return {.latency = latency, .bandwidth = sent / std::max(time, 1e-9)};
}

ClockOffset measure_clock_offset(Communicator& host_group, int rank) {
  constexpr int round_trips = 20;
  std::array<double, 2> clock{};
  const Tensor message = tensor_over<double>(clock, {2});
  ClockOffset best{.uncertainty = std::numeric_limits<double>::infinity()};
  const int peer = host_group.rank() == 0 ? rank : 0;
  for (int i = 0; i < round_trips; ++i) {
    if (host_group.rank() == 0) {
      const double sent = now();
      host_group.send(message, peer, tag);
      host_group.receive(message, peer, tag);
      const double received = now(), uncertainty = (received - sent) / 2;
      if (uncertainty < best.uncertainty)
        best = {.seconds = clock[0] - (sent + received) / 2, .uncertainty = uncertainty};
    } else {
      host_group.receive(message, peer, tag);
      clock[0] = now();
      host_group.send(message, peer, tag);
    }
  }
  clock = {best.seconds, best.uncertainty};
  if (host_group.rank() == 0) {
    host_group.send(message, peer, tag);
  } else {
    host_group.receive(message, peer, tag);
  }
  return {.seconds = clock[0], .uncertainty = clock[1]};
}

}  // namespace foretoken
