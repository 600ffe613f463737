#include "parallel/shared_weights.h"

#include <array>

#include "runtime/error.h"
#include "runtime/operators/elementwise.h"
#include "runtime/random.h"

namespace foretoken {

SharedWeights::SharedWeights(Arena& arena, const Parameters& parameters, const ShardPlan& plan,
                             const GradientReducer& reducer, Communicator* ends)
    : reducer_(reducer), ends_(ends) {
  for (std::size_t b = 0; b < plan.buckets.size(); ++b) {
    const Bucket& bucket = plan.buckets[b];
    if (!bucket.shared || bucket.frozen) continue;
    if (ends == nullptr)
      throw DefectError("shared weights: unit \"{}\" is shared, but this rank is no end of a pipeline",
                        parameters.units()[static_cast<std::size_t>(bucket.first_unit)].name);
    const Range owned = plan.owned(bucket);
    Exchange& exchange = exchanges_.emplace_back();
    exchange.bucket = static_cast<int>(b);
    exchange.own = parameters.gradients().flat(owned.begin, owned.size());
    exchange.theirs = arena.tensor(exchange.own.dtype, exchange.own.shape);
  }
  if (ends != nullptr) require_same_units(parameters);
}

void SharedWeights::require_same_units(const Parameters& parameters) const {
  std::string tensors;
  for (const ParameterUnit& unit : parameters.units())
    if (unit.shared)
      for (const ParameterSpec& spec : unit.specs)
        tensors += fmt::format("{} {} at {}, ", spec.name, to_string(spec.shape), spec.offset - unit.begin);
  std::array<std::int64_t, 2> hashes{};
  const auto own = static_cast<std::size_t>(ends_->rank());
  hashes[own] = static_cast<std::int64_t>(hash_name(tensors));
  const Tensor all = tensor_over(std::span<std::int64_t>(hashes), {2});
  ends_->host().all_gather(all.flat(ends_->rank(), 1), all);
  if (hashes[0] != hashes[1])
    throw DefectError("shared weights: \"{}\": the other side shares other tensors than this one: {}",
                      ends_->name(), tensors);
}

void SharedWeights::progress() {
  bool in_order = true;  // NCCL matches messages by their order
  for (std::size_t i = 0; i < exchanges_.size(); ++i) {
    Exchange& exchange = exchanges_[i];
    const int other = 1 - ends_->rank(), tag = static_cast<int>(i);
    const bool sends = in_order && exchange.sent == steps_ && reducer_.reductions(exchange.bucket) > steps_;
    // On a GPU a receive that waits holds a part of it, here for most of the step, and would gain nothing:
    // the step ends with the first rank's gradient on its way to the last, and the other way is as long.
    const bool on_gpu = exchange.own.device == DeviceKind::cuda;
    if (on_gpu ? sends : !receiving_) exchange.receive = ends_->start_receive(exchange.theirs, other, tag);
    if (sends) {
      exchange.send = ends_->start_send(exchange.own, other, tag);
      ++exchange.sent;
    }
    in_order = exchange.sent > steps_;
    exchange.send.test();
    exchange.receive.test();
  }
  receiving_ = true;
}

void SharedWeights::finish(Stream& stream) {
  progress();
  for (Exchange& exchange : exchanges_) {
    if (exchange.sent == steps_)
      throw DefectError("shared weights: the step ends, but bucket {} is not reduced", exchange.bucket);
    exchange.send.wait();
    exchange.receive.wait();
    add(stream, exchange.theirs, exchange.own);
  }
  ++steps_;
  receiving_ = false;
}

}  // namespace foretoken
