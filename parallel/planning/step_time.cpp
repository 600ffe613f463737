#include "parallel/planning/step_time.h"

#include <algorithm>
#include <map>
#include <utility>

#include "parallel/pipeline/lower_program.h"
#include "parallel/pipeline/schedules.h"
#include "parallel/planning/network.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

std::size_t at(int i) {
  return static_cast<std::size_t>(i);
}

}  // namespace

StepSimulation::StepSimulation(const Program& lowered, const ProgramFootprint& footprint)
    : shape_(lowered.shape),
      program_(lowered, footprint),
      steps_of_(at(shape_.pp)),
      first_at_(program_.steps().size() + 2),
      last_backward_(at(shape_.stages())) {
  const auto& steps = program_.steps();
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const Action& action = steps[i].action;
    steps_of_[at(steps[i].rank)].push_back(i);
    if (action.kind == ActionKind::backward || action.kind == ActionKind::backward_weight)
      last_backward_[at(action.stage)] = i;
  }
  constexpr std::size_t none = ~std::size_t{0};
  std::vector<std::size_t> number_of(2 * at(shape_.stages()) * at(shape_.microbatches), none);
  for (const Simulation::Wait& wait : program_.waits()) {
    const bool gradient = wait.send.kind == ActionKind::send_gradient;
    std::size_t& number = number_of[at((2 * wait.send.stage + (gradient ? 1 : 0)) * shape_.microbatches +
                                       wait.send.microbatch)];
    if (number == none) {
      number = messages_.size();
      messages_.push_back({wait.sender, wait.receiver, wait.send, shape_.rank_of(wait.send.stage),
                           shape_.rank_of(wait.send.stage + (gradient ? shape_.stages() - 1 : 1))});
    }
    awaited_.push_back(number);
  }
  for (const SentMessage& message : messages_)
    for (const auto place : {message.sender, message.receiver}) ++first_at_[place + 1];
  for (std::size_t place = 1; place < first_at_.size(); ++place) first_at_[place] += first_at_[place - 1];
  at_places_.resize(2 * messages_.size());
  std::vector<std::size_t> next(first_at_.begin(), first_at_.end() - 1);
  for (std::size_t number = 0; number < messages_.size(); ++number)
    for (const auto place : {messages_[number].sender, messages_[number].receiver})
      at_places_[next[place]++] = number;
}

/// One simulation of a step.
class StepRun {
 public:
  /// What costs time besides compute and the optimizer.
  enum class Costed { nothing, messages, reductions, everything };

  StepRun(const StepSimulation& simulation, const StepCosts& costs, const Links& links, Costed costed);

  double seconds();
  SimulatedTimeline take_timeline() { return std::move(timeline_); }

 private:
  using Place = Simulation::Place;
  /// The sum of a shared bucket over its holders.
  struct Sum {
    std::vector<int> holders;
    int reduced = 0;   // number of holders whose data-parallel reduction is complete
    double ready = 0;  // time of the latest of them
  };
  struct Transfer {
    enum class Kind { message, reduction, sum, gather } kind;
    std::size_t number = 0;  // of the message, rank, or sum
    std::size_t bucket = 0;
  };
  struct Group {
    GroupSpan span;
    int route = 0;
    int queue = 0;
  };

  void check_sizes() const;
  int node_of(int rank) const { return (offset_ + rank) / links_.per_node; }
  void place_pipeline();
  void add_routes();
  Group group_of(const std::vector<int>& holders);
  void submit(double time, Transfer transfer, const Network::Submission& submission);
  void submit(double time, Transfer transfer, Collective kind, double bytes, const Group& group);

  void advance(int rank);
  void reach(Place place);
  void arrive(std::size_t message, double time);
  void gradients_final(int rank, const Simulation::Step& step, double start, double end);
  void reduced(int rank, std::size_t bucket, double time);
  void run_network();
  double update(double start);

  const StepSimulation& simulation_;
  const StepCosts& costs_;
  const Links& links_;
  const Costed costed_;
  const PipelineShape& shape_;
  const Grid grid_;
  int offset_ = 0;  // place of pipeline rank 0 in its node

  Network network_;
  std::vector<Transfer> transfers_;
  std::vector<int> out_, in_;                             // ports by rank
  std::map<int, std::pair<int, int>> node_ports_;         // out and in
  std::vector<int> activation_routes_, gradient_routes_;  // by sending rank
  std::vector<double> activation_latency_, gradient_latency_;
  std::vector<int> queues_;  // by sending rank and direction
  std::vector<Group> dp_;    // by rank
  std::map<std::vector<int>, Group> holders_;
  std::vector<Sum> sums_;
  std::map<std::pair<std::vector<int>, int>, std::size_t>
      sum_of_;                                        // by holders and place among their buckets
  std::vector<std::vector<std::size_t>> bucket_sum_;  // by rank and bucket

  std::vector<double> ends_;       // by place; negative: not known
  std::vector<double> arrivals_;   // by message; negative: not known
  std::vector<std::size_t> next_;  // by rank
  std::vector<int> awake_;
  std::vector<double> final_;  // by rank: end of the program, its sends, reductions and sums
  std::vector<double> done_;   // by rank: end of the update
  SimulatedTimeline timeline_;
};

StepRun::StepRun(const StepSimulation& simulation, const StepCosts& costs, const Links& links, Costed costed)
    : simulation_(simulation),
      costs_(costs),
      links_(links),
      costed_(costed),
      shape_(simulation.shape_),
      grid_{.pp = shape_.pp, .dp = costs.dp, .virtual_stages = shape_.virtual_stages},
      ends_(simulation.program_.steps().size() + 1, -1.0),
      arrivals_(simulation.messages_.size(), -1.0),
      next_(at(shape_.pp), 0),
      final_(at(shape_.pp), 0.0),
      done_(at(shape_.pp), 0.0),
      timeline_{std::vector<std::vector<Span>>(at(shape_.pp))} {
  check_sizes();
  place_pipeline();
  add_routes();
  bucket_sum_.resize(costs.ranks.size());
  for (std::size_t rank = 0; rank < costs.ranks.size(); ++rank) {
    std::map<std::vector<int>, int> counts;
    for (const BucketCosts& bucket : costs.ranks[rank].buckets) {
      bucket_sum_[rank].push_back(0);
      if (bucket.holders.empty() || bucket.gradient_bytes == 0) continue;
      const auto [found, added] =
          sum_of_.try_emplace({bucket.holders, counts[bucket.holders]++}, sums_.size());
      if (added) sums_.push_back({.holders = bucket.holders});
      bucket_sum_[rank].back() = found->second;
      if (!holders_.contains(bucket.holders)) holders_.emplace(bucket.holders, group_of(bucket.holders));
    }
  }
}

void StepRun::check_sizes() const {
  const auto stages = at(shape_.stages());
  if (costs_.stages.size() != stages ||
      (!costs_.boundary_bytes.empty() && costs_.boundary_bytes.size() + 1 != stages) ||
      (!costs_.ranks.empty() && costs_.ranks.size() != at(shape_.pp)))
    throw DefectError("step time: costs of {} stages, {} boundaries and {} ranks, but the program has {}",
                      costs_.stages.size(), costs_.boundary_bytes.size(), costs_.ranks.size(),
                      to_string(shape_));
}

void StepRun::place_pipeline() {
  int most = -1;
  for (int dp_rank = 0; dp_rank < std::min(grid_.dp, links_.per_node); ++dp_rank) {
    const int offset = grid_.rank_of(0, dp_rank) % links_.per_node;
    const int crossings = (offset + shape_.pp - 1) / links_.per_node;
    if (crossings <= most) continue;
    most = crossings;
    offset_ = offset;
  }
}

void StepRun::add_routes() {
  for (int rank = 0; rank < shape_.pp; ++rank) {
    out_.push_back(network_.add_port(links_.inside.bandwidth));
    in_.push_back(network_.add_port(links_.inside.bandwidth));
    if (!node_ports_.contains(node_of(rank))) {
      const double bandwidth = links_.adapters * links_.between.bandwidth;
      const int out = network_.add_port(bandwidth);
      node_ports_[node_of(rank)] = {out, network_.add_port(bandwidth)};
    }
  }
  const auto route = [&](int from, int to) {
    if (node_of(from) == node_of(to))
      return network_.add_route({.limit = links_.inside.bandwidth, .ports = {out_[at(from)], in_[at(to)]}});
    return network_.add_route({.limit = links_.between.bandwidth,
                               .ports = {node_ports_[node_of(from)].first, node_ports_[node_of(to)].second}});
  };
  const auto latency = [&](int from, int to) {
    return node_of(from) == node_of(to) ? links_.inside.latency : links_.between.latency;
  };
  for (int rank = 0; rank < shape_.pp; ++rank) {
    const int next = (rank + 1) % shape_.pp, previous = (rank + shape_.pp - 1) % shape_.pp;
    activation_routes_.push_back(route(rank, next));
    gradient_routes_.push_back(route(rank, previous));
    activation_latency_.push_back(latency(rank, next));
    gradient_latency_.push_back(latency(rank, previous));
    queues_.push_back(network_.add_queue());
    queues_.push_back(network_.add_queue());
    Group group{.span = data_parallel_span(grid_, rank, links_)};
    Network::Route ring{.limit = collective_bandwidth(group.span, links_), .ports = {}};
    if (group.span.per_node > 1) ring.ports = {out_[at(rank)], in_[at(rank)]};
    const auto& [out, in] = node_ports_[node_of(rank)];
    if (group.span.nodes > 1) ring.ports.insert(ring.ports.end(), {out, in});
    group.route = network_.add_route(std::move(ring));
    group.queue = network_.add_queue();
    dp_.push_back(group);
  }
}

StepRun::Group StepRun::group_of(const std::vector<int>& holders) {
  std::map<int, int> on_node;
  for (const int rank : holders) ++on_node[node_of(rank)];
  Group group{.span = {.ranks = static_cast<int>(holders.size()), .nodes = static_cast<int>(on_node.size())}};
  for (const auto& [node, count] : on_node) group.span.per_node = std::max(group.span.per_node, count);
  Network::Route ring{.limit = collective_bandwidth(group.span, links_), .ports = {}};
  if (group.span.per_node > 1)
    for (const int rank : holders) ring.ports.insert(ring.ports.end(), {out_[at(rank)], in_[at(rank)]});
  if (group.span.nodes > 1)
    for (const auto& [node, count] : on_node)
      ring.ports.insert(ring.ports.end(), {node_ports_[node].first, node_ports_[node].second});
  group.route = network_.add_route(std::move(ring));
  group.queue = network_.add_queue();
  return group;
}

void StepRun::submit(double time, Transfer transfer, const Network::Submission& submission) {
  network_.submit(time, submission);
  transfers_.push_back(transfer);
}

void StepRun::submit(double time, Transfer transfer, Collective kind, double bytes, const Group& group) {
  const CollectiveCost cost = collective_cost(kind, bytes, group.span, links_);
  submit(time, transfer,
         {.route = group.route, .queue = group.queue, .latency = cost.latency, .bytes = cost.bytes});
}

/// Runs the rank's actions until one waits for a message whose arrival is not known yet.
void StepRun::advance(int rank) {
  const auto& steps = simulation_.program_.steps();
  const std::vector<std::size_t>& own = simulation_.steps_of_[at(rank)];
  for (std::size_t& next = next_[at(rank)]; next < own.size(); ++next) {
    const std::size_t number = own[next];
    const Simulation::Step& step = steps[number];
    double start = ends_[step.previous];
    for (std::size_t wait = number == 0 ? 0 : steps[number - 1].waited; wait < step.waited; ++wait) {
      const double arrival = arrivals_[simulation_.awaited_[wait]];
      if (arrival < 0) return;
      start = std::max(start, arrival);
    }
    const double end = start + duration_of(step.action.kind, costs_.stages[at(step.action.stage)]);
    ends_[number + 1] = end;
    final_[at(rank)] = std::max(final_[at(rank)], end);
    timeline_.ranks[at(rank)].push_back({step.action, start, end});
    if (simulation_.last_backward_[at(step.action.stage)] == number && !costs_.ranks.empty())
      gradients_final(rank, step, start, end);
    reach(number + 1);
  }
}

/// Submits the messages both of whose ranks have now reached them.
void StepRun::reach(Place place) {
  for (std::size_t i = simulation_.first_at_[place]; i < simulation_.first_at_[place + 1]; ++i) {
    const std::size_t number = simulation_.at_places_[i];
    const StepSimulation::SentMessage& message = simulation_.messages_[number];
    if (ends_[message.sender] < 0 || ends_[message.receiver] < 0) continue;
    const double ready = std::max(ends_[message.sender], ends_[message.receiver]);
    const bool gradient = message.send.kind == ActionKind::send_gradient;
    if (costed_ == Costed::nothing || costs_.boundary_bytes.empty()) {
      arrive(number, ready);
    } else {
      const auto from = at(message.from);
      submit(ready, {Transfer::Kind::message, number},
             {.route = gradient ? gradient_routes_[from] : activation_routes_[from],
              .queue = queues_[2 * from + (gradient ? 1 : 0)],
              .latency = gradient ? gradient_latency_[from] : activation_latency_[from],
              .bytes = costs_.boundary_bytes[at(message.send.stage - (gradient ? 1 : 0))]});
    }
  }
}

void StepRun::arrive(std::size_t message, double time) {
  const StepSimulation::SentMessage& arrived = simulation_.messages_[message];
  arrivals_[message] = time;
  final_[at(arrived.from)] = std::max(final_[at(arrived.from)], time);
  awake_.push_back(arrived.from);
  awake_.push_back(arrived.to);
}

/// Starts the reductions of the buckets whose gradients become final in the step.
void StepRun::gradients_final(int rank, const Simulation::Step& step, double start, double end) {
  const std::vector<BucketCosts>& buckets = costs_.ranks[at(rank)].buckets;
  const bool costs_time = costed_ >= Costed::reductions && costs_.dp > 1;
  for (std::size_t b = 0; b < buckets.size(); ++b) {
    const BucketCosts& bucket = buckets[b];
    if (bucket.stage != step.action.stage || bucket.gradient_bytes == 0) continue;
    const double time = start + bucket.final_after * (end - start);
    if (costs_time)
      submit(time, {Transfer::Kind::reduction, at(rank), b},
             costs_.sharded_optimizer ? Collective::reduce_scatter : Collective::all_reduce,
             bucket.gradient_bytes, dp_[at(rank)]);
    else
      reduced(rank, b, time);
  }
}

void StepRun::reduced(int rank, std::size_t bucket, double time) {
  final_[at(rank)] = std::max(final_[at(rank)], time);
  const BucketCosts& costs = costs_.ranks[at(rank)].buckets[bucket];
  if (costs.holders.empty() || costed_ < Costed::reductions) return;
  const std::size_t number = bucket_sum_[at(rank)][bucket];
  Sum& sum = sums_[number];
  sum.ready = std::max(sum.ready, time);
  if (++sum.reduced < static_cast<int>(sum.holders.size())) return;
  submit(sum.ready, {Transfer::Kind::sum, number}, Collective::all_reduce,
         costs.gradient_bytes / (costs_.sharded_optimizer ? costs_.dp : 1), holders_.at(sum.holders));
}

/// Runs until nothing is left to send.
void StepRun::run_network() {
  for (;;) {
    while (!awake_.empty()) {
      const int rank = awake_.back();
      awake_.pop_back();
      advance(rank);
    }
    Network::Completion completion;
    if (!network_.next(completion)) return;
    const Transfer transfer = transfers_[at(completion.transfer)];
    switch (transfer.kind) {
      case Transfer::Kind::message:
        arrive(transfer.number, completion.time);
        break;
      case Transfer::Kind::reduction:
        reduced(static_cast<int>(transfer.number), transfer.bucket, completion.time);
        break;
      case Transfer::Kind::sum:
        for (const int rank : sums_[transfer.number].holders)
          final_[at(rank)] = std::max(final_[at(rank)], completion.time);
        break;
      case Transfer::Kind::gather:
        done_[transfer.number] = std::max(done_[transfer.number], completion.time);
        break;
    }
  }
}

/// Returns when all ranks have updated and gathered their weights.
double StepRun::update(double start) {
  const bool gathers = costed_ == Costed::everything && costs_.sharded_optimizer && costs_.dp > 1;
  for (std::size_t rank = 0; rank < costs_.ranks.size(); ++rank) {
    double time = start;
    for (const BucketCosts& bucket : costs_.ranks[rank].buckets) {
      if (bucket.gradient_bytes == 0) continue;
      time += bucket.update;
      if (gathers)
        submit(time, {Transfer::Kind::gather, rank}, Collective::all_gather, bucket.weight_bytes, dp_[rank]);
    }
    done_[rank] = time;
  }
  run_network();
  return *std::max_element(done_.begin(), done_.end());
}

double StepRun::seconds() {
  ends_[0] = 0;
  reach(0);
  for (int rank = shape_.pp; rank-- > 0;) awake_.push_back(rank);
  run_network();
  double measured = 0;
  for (std::size_t rank = 0; rank < final_.size(); ++rank)
    measured = std::max(measured, final_[rank] + (costs_.ranks.empty() ? 0 : costs_.ranks[rank].norm));
  if (costs_.ranks.empty()) return measured + costs_.host;
  if (costed_ == Costed::everything) {
    const int world = grid_.world();
    const GroupSpan all{
        .ranks = world, .nodes = links_.node_of(world - 1) + 1, .per_node = std::min(world, links_.per_node)};
    measured += collective_seconds(Collective::all_reduce, norm_bytes, all, links_);
  }
  return update(measured) + costs_.host;
}

double StepSimulation::seconds(const StepCosts& costs, const Links& links) const {
  return StepRun(*this, costs, links, StepRun::Costed::everything).seconds();
}

SimulatedTimeline StepSimulation::timeline(const StepCosts& costs, const Links& links) const {
  StepRun run(*this, costs, links, StepRun::Costed::everything);
  run.seconds();
  return run.take_timeline();
}

namespace {

/// `seconds(costed)` is the time of the step in which only this costs time.
template <class Seconds>
StepTime shares_of(const PipelineShape& shape, const StepCosts& costs, const Seconds& seconds) {
  const double free = seconds(StepRun::Costed::nothing), messages = seconds(StepRun::Costed::messages),
               reductions = seconds(StepRun::Costed::reductions);
  StepTime step{.total = seconds(StepRun::Costed::everything)};
  const double part = 1.0 / shape.pp;
  for (int rank = 0; rank < shape.pp; ++rank) {
    StepShares shares{.exposed_messages = messages - free,
                      .exposed_reductions = reductions - messages,
                      .exposed_gathers = step.total - reductions,
                      .host = costs.host};
    for (int stage = rank; stage < shape.stages(); stage += shape.pp)
      shares.compute += shape.microbatches * costs.stages[at(stage)].total();
    if (!costs.ranks.empty()) {
      shares.optimizer = costs.ranks[at(rank)].norm;
      for (const BucketCosts& bucket : costs.ranks[at(rank)].buckets)
        if (bucket.gradient_bytes > 0) shares.optimizer += bucket.update;
    }
    shares.bubble = step.total - shares.total();
    step.step.compute += part * shares.compute;
    step.step.bubble += part * shares.bubble;
    step.step.optimizer += part * shares.optimizer;
    step.ranks.push_back(shares);
  }
  step.step.exposed_messages = step.ranks[0].exposed_messages;
  step.step.exposed_reductions = step.ranks[0].exposed_reductions;
  step.step.exposed_gathers = step.ranks[0].exposed_gathers;
  step.step.host = costs.host;
  return step;
}

/// Groups of pp microbatches in the shorter of two simulated steps, fewest microbatches in it, and groups
/// that the longer one has more. The groups of interleaved_1f1b may differ in turns, so that one is not
/// enough.
constexpr int simulated_groups = 3, fewest_microbatches = 8, groups_apart = 4;

StepSimulation make_simulation(std::string_view schedule, const PipelineShape& shape) {
  const Program lowered = lower_program(make_program(schedule, shape));
  return {lowered, validate_program(lowered)};
}

}  // namespace

StepTime StepSimulation::predict(const StepCosts& costs, const Links& links) const {
  return shares_of(shape_, costs,
                   [&](StepRun::Costed costed) { return StepRun(*this, costs, links, costed).seconds(); });
}

SchedulePrediction::SchedulePrediction(std::string_view schedule, const PipelineShape& shape)
    : shape_(shape) {
  PipelineShape simulated = shape;
  const int fewest = std::max(simulated_groups * shape.pp, fewest_microbatches);
  const int groups = shape.pp > 0 ? (shape.microbatches - fewest) / shape.pp : 0;
  const int left = shape.microbatches - groups * shape.pp;  // in the shorter step
  if (2 * left + groups_apart * shape.pp < shape.microbatches) {
    simulated.microbatches = left;
    simulations_.push_back(make_simulation(schedule, simulated));
    simulated.microbatches += groups_apart * shape.pp;
    left_out_ = static_cast<double>(groups - groups_apart) / groups_apart;
  }
  simulations_.push_back(make_simulation(schedule, simulated));
}

template <class Seconds>
double SchedulePrediction::extended(const StepCosts& costs, const Seconds& seconds) const {
  const double longer = seconds(simulations_.back());
  if (left_out_ == 0) return longer;
  std::vector<double> loads(at(shape_.pp), 0.0);
  for (int stage = 0; stage < shape_.stages(); ++stage)
    loads[at(shape_.rank_of(stage))] += costs.stages[at(stage)].total();
  const double compute = groups_apart * shape_.pp * *std::max_element(loads.begin(), loads.end());
  return longer + left_out_ * std::max(compute, longer - seconds(simulations_.front()));
}

double SchedulePrediction::seconds(const StepCosts& costs, const Links& links) const {
  return extended(costs, [&](const StepSimulation& simulation) { return simulation.seconds(costs, links); });
}

StepTime SchedulePrediction::predict(const StepCosts& costs, const Links& links) const {
  return shares_of(shape_, costs, [&](StepRun::Costed costed) {
    return extended(costs, [&](const StepSimulation& simulation) {
      return StepRun(simulation, costs, links, costed).seconds();
    });
  });
}

}  // namespace foretoken
