#pragma once
// Brings the weights together that a sharded optimizer updated in parts, one of every bucket on each
// data-parallel rank, while the next forward pass already runs over those that are whole: the order of the
// plan's buckets is that in which forward comes to them.
//
// One step: start(), unit_needed() of every unit before it is read, progress() now and then, finish(), and
// after the optimizer's step parts_changed(). Without a sharded optimizer nothing is to be done.

#include <vector>

#include "parallel/communicator.h"
#include "parallel/shard_plan.h"

namespace foretoken {

class WeightGatherer {
 public:
  /// Parameters, plan and communicator must outlive it.
  WeightGatherer(const Parameters& parameters, const ShardPlan& plan, Communicator& dp);

  /// Each rank has changed its parts: what it has of others' is of before.
  void parts_changed();
  /// Starts to gather every bucket where parts have changed.
  void start();
  /// Returns when the weights of units()[unit] are whole, on a GPU for what is enqueued from then on. A
  /// DefectError where parts have changed and start() did not follow.
  void unit_needed(int unit);
  /// Moves what is under way; returns at once.
  void progress();
  /// start(), and returns when all weights are whole, on a GPU for what is enqueued from then on.
  void finish();

 private:
  const Parameters& parameters_;
  const ShardPlan& plan_;
  Communicator& dp_;
  std::vector<int> bucket_of_;    // by unit
  std::vector<Request> gathers_;  // by bucket
  bool changed_ = false;
};

}  // namespace foretoken
