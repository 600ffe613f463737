#include "parallel/planning/step_time.h"

#include <algorithm>

#include "parallel/pipeline/lower_program.h"
#include "parallel/pipeline/schedules.h"
#include "parallel/planning/step_run.h"

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
