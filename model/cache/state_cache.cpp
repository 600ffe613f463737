#include "model/cache/state_cache.h"

#include "runtime/operators/rowwise/rms_norm.h"

namespace foretoken {

void StateCache::store(const CachedRows& rows, const Tensor& x, const PassScratch& scratch) const {
  states_.store(rows.stream, kept_ == Kept::normed ? normed(rows.stream, x, scratch) : x, rows.slots);
}

Tensor StateCache::load_normed(Stream& stream, const Tensor& slots, const PassScratch& scratch) const {
  const Tensor kept = scratch.gathered.rows(0, slots.elements());
  states_.load(stream, slots, kept);
  return kept_ == Kept::normed ? kept : normed(stream, kept, scratch);
}

Tensor StateCache::normed(Stream& stream, const Tensor& x, const PassScratch& scratch) const {
  const std::int64_t n = x.shape[0];
  const Tensor normed = scratch.block.normed.rows(0, n);
  rms_norm_forward(
      stream, {.x = x, .weight = norm_, .eps = eps_, .out = {normed}, .rstd = scratch.block.rstd.rows(0, n)});
  return normed;
}

}  // namespace foretoken
