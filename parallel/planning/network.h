#pragma once
// Simulates transfers that share bandwidth, in the order of time.

#include <deque>
#include <queue>
#include <vector>

namespace foretoken {

/// Transfers of one queue run one after another, as on one NCCL communicator. Transfers of different queues
/// that use a port at the same time have equal parts of its bandwidth. A transfer's rate is the smallest of
/// its parts and of its route's limit; what it cannot use is not given to others.
class Network {
 public:
  struct Route {
    double limit = 0;  // bytes/s
    std::vector<int> ports;
  };
  struct Completion {
    int transfer = 0;
    double time = 0;
  };

  int add_port(double bandwidth);
  int add_queue();
  int add_route(Route route);

  struct Submission {
    int route = 0;
    int queue = 0;
    double latency = 0;  // s, in which the transfer occupies its queue but no port
    double bytes = 0;
  };
  /// Submits a transfer at a time that is no earlier than the last completion. Returns its number; numbers
  /// ascend from 0.
  int submit(double time, const Submission& transfer);
  /// Advances the time to the next completion. Returns false if no transfer is left.
  bool next(Completion& completion);

 private:
  struct Port {
    double bandwidth = 0;
    std::vector<int> transfers;  // in progress
  };
  struct Queue {
    bool busy = false;
    std::deque<int> waiting;
  };
  struct Transfer {
    int route = 0;
    int queue = 0;
    double latency = 0;
    double left = 0;   // bytes
    double rate = 0;   // bytes/s since `since`
    double since = 0;  // s
    int version = 0;   // of the predicted completion
  };
  enum class Kind { submitted, started, completed };
  struct Event {
    double time = 0;
    int sequence = 0;  // events of the same time are in the order in which they were added
    Kind kind = Kind::submitted;
    int transfer = 0;
    int version = 0;
    bool operator>(const Event& other) const {
      return time != other.time ? time > other.time : sequence > other.sequence;
    }
  };

  void add_event(double time, Kind kind, int transfer, int version = 0);
  void begin(int transfer, double time);
  void start(int transfer, double time);
  void complete(int transfer, double time);
  void share(const Route& route, double time);

  std::vector<Port> ports_;
  std::vector<Queue> queues_;
  std::vector<Route> routes_;
  std::vector<Transfer> transfers_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  int events_added_ = 0;
};

}  // namespace foretoken
