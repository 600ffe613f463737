#include "parallel/weight_gatherer.h"

#include "runtime/error.h"

namespace foretoken {

WeightGatherer::WeightGatherer(const Parameters& parameters, const ShardPlan& plan, Communicator& dp)
    : parameters_(parameters),
      plan_(plan),
      dp_(dp),
      bucket_of_(plan.bucket_of_units()),
      gathers_(plan.buckets.size()) {}

void WeightGatherer::parts_changed() {
  changed_ = plan_.sharded && plan_.dp > 1;
}

void WeightGatherer::start() {
  if (!changed_) return;
  changed_ = false;
  for (std::size_t b = 0; b < gathers_.size(); ++b) {
    const Bucket& bucket = plan_.buckets[b];
    if (bucket.frozen) continue;
    const Range part = plan_.part(bucket);
    gathers_[b] = dp_.start_all_gather(parameters_.weights().flat(part.begin, part.size()),
                                       parameters_.weights().flat(bucket.range.begin, bucket.range.size()));
  }
}

void WeightGatherer::unit_needed(int unit) {
  if (changed_)
    throw DefectError("weight gatherer: unit \"{}\" is needed, but its weights are not being gathered",
                      parameters_.units().at(static_cast<std::size_t>(unit)).name);
  gathers_[static_cast<std::size_t>(bucket_of_.at(static_cast<std::size_t>(unit)))].wait();
}

void WeightGatherer::progress() {
  for (Request& gather : gathers_) gather.test();
}

void WeightGatherer::finish() {
  start();
  for (Request& gather : gathers_) gather.wait();
}

}  // namespace foretoken
