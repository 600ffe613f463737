#include "parallel/planning/network.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "tests/support/catch.h"

using namespace foretoken;

namespace {

/// The completion times of all transfers, by number.
std::vector<double> completions(Network& network) {
  std::vector<double> times;
  for (Network::Completion completion; network.next(completion);) {
    times.resize(std::max(times.size(), static_cast<std::size_t>(completion.transfer) + 1));
    times[static_cast<std::size_t>(completion.transfer)] = completion.time;
  }
  return times;
}

}  // namespace

TEST_CASE("two transfers on one port have half of its bandwidth while both run") {
  Network network;
  const int port = network.add_port(10);
  const int route = network.add_route({.limit = 10, .ports = {port}});
  network.submit(0, {.route = route, .queue = network.add_queue(), .bytes = 100});
  network.submit(5, {.route = route, .queue = network.add_queue(), .bytes = 100});
  CHECK(completions(network) == std::vector<double>{15, 20});
}

TEST_CASE("transfers of one queue run one after another, each after its latency") {
  Network network;
  const int route = network.add_route({.limit = 10, .ports = {network.add_port(10)}});
  const int queue = network.add_queue();
  network.submit(1, {.route = route, .queue = queue, .latency = 2, .bytes = 10});
  network.submit(1, {.route = route, .queue = queue, .latency = 2, .bytes = 20});
  CHECK(completions(network) == std::vector<double>{4, 8});
}

TEST_CASE("a transfer is as fast as the most crowded of its ports, and no faster than its route") {
  Network network;
  const int a = network.add_port(10), b = network.add_port(30);
  const auto submit = [&](double limit, std::vector<int> ports, double bytes) {
    const int route = network.add_route({.limit = limit, .ports = std::move(ports)});
    network.submit(0, {.route = route, .queue = network.add_queue(), .bytes = bytes});
  };
  submit(100, {a, b}, 50);  // half of a: 5 bytes/s
  submit(100, {a}, 50);
  submit(4, {b}, 40);
  CHECK(completions(network) == std::vector<double>{10, 10, 10});
}
