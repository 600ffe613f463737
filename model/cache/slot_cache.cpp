#include "model/cache/slot_cache.h"

#include "runtime/operators/attention/cached_attention.h"
#include "runtime/operators/vocabulary/embedding.h"

namespace foretoken {

SlotCache::SlotCache(const CachePlan& plan, std::int64_t width)
    : tensor_(plan.arena.tensor(plan.dtype, {plan.shape.sequences, plan.shape.slots(), width})) {}

void SlotCache::store(Stream& stream, const Tensor& x, const Tensor& slots) const {
  cache_store(stream, {.x = {x}, .slots = slots, .cache = tensor_});
}

void SlotCache::load(Stream& stream, const Tensor& slots, const Tensor& out) const {
  const std::int64_t n = slots.elements(), width = tensor_.shape[2];
  embedding_forward(stream, {.tokens = slots.view({1, n}),
                             .table = tensor_.view({tensor_.elements() / width, width}),
                             .out = out.view({1, n, width})});
}

void SlotCache::move(Stream& stream, const Tensor& from, const Tensor& to) const {
  cache_move(stream, {.from = from, .to = to, .cache = tensor_});
}

}  // namespace foretoken
