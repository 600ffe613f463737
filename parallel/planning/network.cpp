#include "parallel/planning/network.h"

#include <algorithm>
#include <utility>

namespace foretoken {

namespace {

std::size_t at(int i) {
  return static_cast<std::size_t>(i);
}

}  // namespace

int Network::add_port(double bandwidth) {
  ports_.push_back({bandwidth, {}});
  return static_cast<int>(ports_.size()) - 1;
}

int Network::add_queue() {
  queues_.emplace_back();
  return static_cast<int>(queues_.size()) - 1;
}

int Network::add_route(Route route) {
  routes_.push_back(std::move(route));
  return static_cast<int>(routes_.size()) - 1;
}

void Network::add_event(double time, Kind kind, int transfer, int version) {
  events_.push({time, events_added_++, kind, transfer, version});
}

int Network::submit(double time, const Submission& transfer) {
  const int number = static_cast<int>(transfers_.size());
  transfers_.push_back({.route = transfer.route,
                        .queue = transfer.queue,
                        .latency = transfer.latency,
                        .left = transfer.bytes});
  add_event(time, Kind::submitted, number);
  return number;
}

void Network::begin(int transfer, double time) {
  const double latency = transfers_[at(transfer)].latency;
  if (latency > 0)
    add_event(time + latency, Kind::started, transfer);
  else
    start(transfer, time);
}

void Network::start(int transfer, double time) {
  Transfer& started = transfers_[at(transfer)];
  const Route& route = routes_[at(started.route)];
  started.since = time;
  if (started.left == 0) return add_event(time, Kind::completed, transfer, started.version);
  for (const int port : route.ports) ports_[at(port)].transfers.push_back(transfer);
  share(route, time);
}

/// Computes the rates of all transfers on the route's ports again.
void Network::share(const Route& route, double time) {
  for (const int port : route.ports)
    for (const int transfer : ports_[at(port)].transfers) {
      Transfer& shared = transfers_[at(transfer)];
      const Route& own = routes_[at(shared.route)];
      double rate = own.limit;
      for (const int used : own.ports)
        rate = std::min(rate,
                        ports_[at(used)].bandwidth / static_cast<double>(ports_[at(used)].transfers.size()));
      if (rate == shared.rate) continue;
      if (shared.rate > 0) shared.left = std::max(0.0, shared.left - shared.rate * (time - shared.since));
      shared.rate = rate;
      shared.since = time;
      add_event(time + shared.left / rate, Kind::completed, transfer, ++shared.version);
    }
}

void Network::complete(int transfer, double time) {
  const Transfer& completed = transfers_[at(transfer)];
  const Route& route = routes_[at(completed.route)];
  for (const int port : route.ports) std::erase(ports_[at(port)].transfers, transfer);
  share(route, time);
  Queue& queue = queues_[at(completed.queue)];
  queue.busy = !queue.waiting.empty();
  if (!queue.busy) return;
  const int following = queue.waiting.front();
  queue.waiting.pop_front();
  begin(following, time);
}

bool Network::next(Completion& completion) {
  while (!events_.empty()) {
    const Event event = events_.top();
    events_.pop();
    Queue& queue = queues_[at(transfers_[at(event.transfer)].queue)];
    switch (event.kind) {
      case Kind::submitted:
        if (queue.busy) {
          queue.waiting.push_back(event.transfer);
        } else {
          queue.busy = true;
          begin(event.transfer, event.time);
        }
        break;
      case Kind::started:
        start(event.transfer, event.time);
        break;
      case Kind::completed:
        if (event.version != transfers_[at(event.transfer)].version) break;
        complete(event.transfer, event.time);
        completion = {event.transfer, event.time};
        return true;
    }
  }
  return false;
}

}  // namespace foretoken
