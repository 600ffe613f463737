#include "parallel/optimizer/gradient_reducer.h"

#include <algorithm>
#include <numeric>

#include "runtime/error.h"

namespace foretoken {

GradientReducer::GradientReducer(const Parameters& parameters, const ShardPlan& plan, Communicator& dp)
    : parameters_(parameters), plan_(plan), dp_(dp), requests_(plan.buckets.size()) {
  if (plan.dp != dp.size() || plan.dp_rank != dp.rank())
    throw DefectError("gradient reducer: planned for dp rank {} of {}, but \"{}\" has rank {} of {}",
                      plan.dp_rank, plan.dp, dp.name(), dp.rank(), dp.size());
  bucket_of_.resize(parameters.units().size());
  for (std::size_t b = 0; b < plan.buckets.size(); ++b)
    for (int u = plan.buckets[b].first_unit; u < plan.buckets[b].end_unit; ++u)
      bucket_of_[static_cast<std::size_t>(u)] = static_cast<int>(b);
  order_.reserve(plan.buckets.size());
  unit_ready_.resize(bucket_of_.size());
  missing_.resize(plan.buckets.size());
  reductions_.resize(plan.buckets.size());
  begin_step();
}

void GradientReducer::begin_step() {
  std::fill(unit_ready_.begin(), unit_ready_.end(), false);
  for (std::size_t b = 0; b < missing_.size(); ++b)
    missing_[b] = plan_.buckets[b].end_unit - plan_.buckets[b].first_unit;
  started_ = 0;
  finished_ = false;
}

void GradientReducer::unit_ready(int unit) {
  if (finished_) begin_step();
  const auto u = static_cast<std::size_t>(unit);
  if (u >= unit_ready_.size())
    throw DefectError("gradient reducer: unit {}, expected 0 to {}", unit, std::ssize(unit_ready_) - 1);
  if (unit_ready_[u])
    throw DefectError("gradient reducer: unit \"{}\" is ready twice in a step", parameters_.units()[u].name);
  unit_ready_[u] = true;

  const int bucket = bucket_of_[u];
  if (--missing_[static_cast<std::size_t>(bucket)] > 0) return;
  if (plan_.buckets[static_cast<std::size_t>(bucket)].frozen) return;
  if (plan_.dp == 1) {
    ++reductions_[static_cast<std::size_t>(bucket)];
  } else if (!order_known_) {
    order_.push_back(bucket);
  } else {
    start_ready();
  }
}

void GradientReducer::start_ready() {
  for (; started_ < order_.size() && missing_[static_cast<std::size_t>(order_[started_])] == 0; ++started_)
    start(order_[started_]);
}

void GradientReducer::start(int bucket) {
  const Bucket& b = plan_.buckets[static_cast<std::size_t>(bucket)];
  const Tensor whole = parameters_.gradients().flat(b.range.begin, b.range.size());
  const Range part = plan_.part(b);
  requests_[static_cast<std::size_t>(bucket)] =
      plan_.sharded ? dp_.start_reduce_scatter(whole, parameters_.gradients().flat(part.begin, part.size()))
                    : dp_.start_all_reduce(whole, ReduceOp::sum);
}

void GradientReducer::progress() {
  for (std::size_t i = 0; i < started_; ++i) {
    const auto bucket = static_cast<std::size_t>(order_[i]);
    if (requests_[bucket].active() && requests_[bucket].test()) ++reductions_[bucket];
  }
}

void GradientReducer::agree_on_order() {
  dp_.host().broadcast(tensor_over(std::span(order_), {static_cast<std::int64_t>(order_.size())}), 0);
  order_known_ = true;
  start_ready();
}

void GradientReducer::finish() {
  for (std::size_t u = 0; u < unit_ready_.size(); ++u)
    if (finished_ || !unit_ready_[u])
      throw DefectError("gradient reducer: the step ended before unit \"{}\" was ready",
                        parameters_.units()[u].name);
  if (plan_.dp > 1) {
    if (!order_known_) agree_on_order();
    for (const int bucket : order_) {
      Request& request = requests_[static_cast<std::size_t>(bucket)];
      if (!request.active()) continue;  // progress() has already counted it
      request.wait();
      ++reductions_[static_cast<std::size_t>(bucket)];
    }
  }
  finished_ = true;
}

}  // namespace foretoken
