#include "parallel/planning/step_run.h"

#include <algorithm>

#include "runtime/error.h"

namespace foretoken {

namespace {

std::size_t at(int i) {
  return static_cast<std::size_t>(i);
}

}  // namespace

StepRun::StepRun(const StepSimulation& simulation, const StepCosts& costs, const Links& links, Costed costed)
    : simulation_(simulation),
      costs_(costs),
      links_(links),
      costed_(costed),
      grid_{.pp = simulation.shape_.pp, .dp = costs.dp, .virtual_stages = simulation.shape_.virtual_stages},
      network_(grid_, links),
      ends_(simulation.program_.steps().size() + 1, -1.0),
      arrivals_(simulation.messages_.size(), -1.0),
      ranks_(at(grid_.pp)),
      timeline_{std::vector<std::vector<Span>>(at(grid_.pp))} {
  check_sizes();
  number_sums();
}

void StepRun::check_sizes() const {
  const auto stages = at(grid_.stages());
  if (costs_.stages.size() != stages ||
      (!costs_.boundary_bytes.empty() && costs_.boundary_bytes.size() + 1 != stages) ||
      (!costs_.ranks.empty() && costs_.ranks.size() != at(grid_.pp)))
    throw DefectError("step time: costs of {} stages, {} boundaries and {} ranks, but the program has {}",
                      costs_.stages.size(), costs_.boundary_bytes.size(), costs_.ranks.size(),
                      to_string(simulation_.shape_));
}

/// A bucket's sum is known by its holders and its place among the buckets that they share.
void StepRun::number_sums() {
  std::map<std::pair<std::vector<int>, int>, std::size_t> known;
  for (std::size_t rank = 0; rank < costs_.ranks.size(); ++rank) {
    std::map<std::vector<int>, int> counts;
    for (const BucketCosts& bucket : costs_.ranks[rank].buckets) {
      ranks_[rank].sum_of.push_back(0);
      if (bucket.holders.empty() || bucket.gradient_bytes == 0) continue;
      const auto [found, added] = known.try_emplace({bucket.holders, counts[bucket.holders]++}, sums_.size());
      if (added) sums_.push_back({.holders = bucket.holders});
      ranks_[rank].sum_of.back() = found->second;
    }
  }
}

void StepRun::submit(double time, Transfer transfer, const Network::Submission& submission) {
  network_.network().submit(time, submission);
  transfers_.push_back(transfer);
}

/// Runs the rank's actions until one waits for a message whose arrival is not known yet.
void StepRun::advance(int rank) {
  const auto& steps = simulation_.program_.steps();
  const std::vector<std::size_t>& own = simulation_.steps_of_[at(rank)];
  Rank& state = ranks_[at(rank)];
  for (std::size_t& next = state.next; next < own.size(); ++next) {
    const std::size_t number = own[next];
    const Simulation::Step& step = steps[number];
    double start = ends_[step.previous];
    for (std::size_t wait = number == 0 ? 0 : steps[number - 1].waited; wait < step.waited; ++wait) {
      const std::size_t message = simulation_.awaited_[wait];
      if (arrivals_[message] < 0) return;
      start = received(message, start);
    }
    const double end = start + duration_of(step.action.kind, costs_.stages[at(step.action.stage)]);
    ends_[number + 1] = end;
    state.final = std::max(state.final, end);
    timeline_.ranks[at(rank)].push_back({step.action, start, end});
    if (simulation_.last_backward_[at(step.action.stage)] == number && !costs_.ranks.empty())
      gradients_final(rank, step, start, end);
    if (next + 1 == own.size())
      for (const std::size_t bucket : state.deferred) reduce(rank, bucket, end);
    reach(number + 1);
  }
}

/// When the rank can use a message that it waits for from `start` on.
double StepRun::received(std::size_t message, double start) const {
  start = std::max(start, arrivals_[message]);
  if (links_.in_background || !costs_messages()) return start;
  const StepSimulation::SentMessage& sent = simulation_.messages_[message];
  const bool gradient = sent.send.kind == ActionKind::send_gradient;
  return start + network_.message_seconds(sent.from, gradient, costs_.boundary_bytes[sent.boundary()]);
}

/// Submits the messages both of whose ranks have now reached them.
void StepRun::reach(Place place) {
  for (std::size_t i = simulation_.first_at_[place]; i < simulation_.first_at_[place + 1]; ++i) {
    const std::size_t number = simulation_.at_places_[i];
    const StepSimulation::SentMessage& message = simulation_.messages_[number];
    if (ends_[message.sender] < 0 || ends_[message.receiver] < 0) continue;
    const double ready = std::max(ends_[message.sender], ends_[message.receiver]);
    if (links_.in_background && costs_messages())
      submit(ready, {Transfer::Kind::message, number},
             network_.message(message.from, message.send.kind == ActionKind::send_gradient,
                              costs_.boundary_bytes[message.boundary()]));
    else
      arrive(number, ready);
  }
}

void StepRun::arrive(std::size_t message, double time) {
  const StepSimulation::SentMessage& arrived = simulation_.messages_[message];
  arrivals_[message] = time;
  Rank& sender = ranks_[at(arrived.from)];
  sender.final = std::max(sender.final, time);
  awake_.push_back(arrived.from);
  awake_.push_back(arrived.to);
}

/// Starts the reductions of the buckets whose gradients become final in the step.
void StepRun::gradients_final(int rank, const Simulation::Step& step, double start, double end) {
  const std::vector<BucketCosts>& buckets = costs_.ranks[at(rank)].buckets;
  for (std::size_t b = 0; b < buckets.size(); ++b) {
    if (buckets[b].stage != step.action.stage || buckets[b].gradient_bytes == 0) continue;
    if (links_.in_background)
      reduce(rank, b, start + buckets[b].final_after * (end - start));
    else
      ranks_[at(rank)].deferred.push_back(b);
  }
}

void StepRun::reduce(int rank, std::size_t bucket, double time) {
  if (costed_ < Costed::reductions || costs_.dp == 1) return reduced(rank, bucket, time);
  submit(
      time, {Transfer::Kind::reduction, at(rank), bucket},
      network_.data_parallel(costs_.sharded_optimizer ? Collective::reduce_scatter : Collective::all_reduce,
                             rank, costs_.ranks[at(rank)].buckets[bucket].gradient_bytes));
}

void StepRun::reduced(int rank, std::size_t bucket, double time) {
  Rank& state = ranks_[at(rank)];
  state.final = std::max(state.final, time);
  const BucketCosts& costs = costs_.ranks[at(rank)].buckets[bucket];
  if (costs.holders.empty() || costed_ < Costed::reductions) return;
  const std::size_t number = state.sum_of[bucket];
  Sum& sum = sums_[number];
  sum.ready = std::max(sum.ready, time);
  if (++sum.reduced < static_cast<int>(sum.holders.size())) return;
  submit(sum.ready, {Transfer::Kind::sum, number},
         network_.sum(sum.holders, costs.gradient_bytes / (costs_.sharded_optimizer ? costs_.dp : 1)));
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
    if (!network_.network().next(completion)) return;
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
          ranks_[at(rank)].final = std::max(ranks_[at(rank)].final, completion.time);
        break;
      case Transfer::Kind::gather:
        ranks_[transfer.number].done = std::max(ranks_[transfer.number].done, completion.time);
        break;
    }
  }
}

/// Returns when all ranks have updated and gathered their weights.
double StepRun::update(double start) {
  const bool gathers = costed_ == Costed::everything && costs_.sharded_optimizer && costs_.dp > 1;
  for (std::size_t rank = 0; rank < costs_.ranks.size(); ++rank) {
    const std::vector<BucketCosts>& buckets = costs_.ranks[rank].buckets;
    double time = start, all = start;
    for (const BucketCosts& bucket : buckets)
      if (bucket.gradient_bytes > 0) all += bucket.update;
    for (const BucketCosts& bucket : buckets) {
      if (bucket.gradient_bytes == 0) continue;
      time += bucket.update;
      if (gathers)
        submit(links_.in_background ? time : all, {Transfer::Kind::gather, rank},
               network_.data_parallel(Collective::all_gather, static_cast<int>(rank), bucket.weight_bytes));
    }
    ranks_[rank].done = time;
  }
  run_network();
  double done = 0;
  for (const Rank& rank : ranks_) done = std::max(done, rank.done);
  return done;
}

double StepRun::seconds() {
  ends_[0] = 0;
  reach(0);
  for (int rank = grid_.pp; rank-- > 0;) awake_.push_back(rank);
  run_network();
  double measured = 0;
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank)
    measured = std::max(measured, ranks_[rank].final + (costs_.ranks.empty() ? 0 : costs_.ranks[rank].norm));
  if (costs_.ranks.empty()) return measured + costs_.host;
  if (costed_ == Costed::everything) {
    const int world = grid_.world();
    const GroupSpan all{
        .ranks = world, .nodes = links_.node_of(world - 1) + 1, .per_node = std::min(world, links_.per_node)};
    measured += collective_seconds(Collective::all_reduce, norm_bytes, all, links_);
  }
  return update(measured) + costs_.host;
}

}  // namespace foretoken
