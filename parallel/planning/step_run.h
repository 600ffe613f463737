#pragma once
// One simulation of a step in the order of time. Internal to step_time.h.

#include <map>
#include <utility>
#include <vector>

#include "parallel/planning/pipeline_network.h"
#include "parallel/planning/step_time.h"

namespace foretoken {

class StepRun {
 public:
  /// What costs time besides compute and the optimizer.
  enum class Costed { nothing, messages, reductions, everything };

  /// Throws DefectError unless `costs` has every stage, boundary and rank of the program.
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
  struct Rank {
    std::size_t next = 0;               // its next step
    double final = 0;                   // end of the program, its sends, reductions and sums
    double done = 0;                    // end of the update
    std::vector<std::size_t> deferred;  // buckets to reduce at the end of the program
    std::vector<std::size_t> sum_of;    // by bucket, if it is shared
  };

  void check_sizes() const;
  void number_sums();
  bool costs_messages() const { return costed_ != Costed::nothing && !costs_.boundary_bytes.empty(); }
  void submit(double time, Transfer transfer, const Network::Submission& submission);

  void advance(int rank);
  double received(std::size_t message, double start) const;
  void reach(Place place);
  void arrive(std::size_t message, double time);
  void gradients_final(int rank, const Simulation::Step& step, double start, double end);
  void reduce(int rank, std::size_t bucket, double time);
  void reduced(int rank, std::size_t bucket, double time);
  void run_network();
  double update(double start);

  const StepSimulation& simulation_;
  const StepCosts& costs_;
  const Links& links_;
  const Costed costed_;
  const Grid grid_;

  PipelineNetwork network_;
  std::vector<Transfer> transfers_;  // by number of the network
  std::vector<Sum> sums_;
  std::vector<double> ends_;      // by place; negative: not known
  std::vector<double> arrivals_;  // by message; negative: not known
  std::vector<Rank> ranks_;
  std::vector<int> awake_;
  SimulatedTimeline timeline_;
};

}  // namespace foretoken
