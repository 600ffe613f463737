#include "runtime/operators/attention/cached_attention.h"

#include "runtime/error.h"
#include "runtime/operators/dispatch.h"
#include "runtime/timing/profile.h"

namespace foretoken {

void cache_store(Stream& stream, const CacheStore& op) {
  const ProfileScope scope(stream, "cache_store");
  const std::int64_t n = op.slots.elements(), w = op.cache.shape[2];
  const std::int64_t stride = n == 0 ? w : op.x.matrix.elements() / n;
  if (op.x.matrix.elements() != n * stride || op.x.first + w > stride || op.cache.shape.rank() != 3 ||
      op.x.matrix.dtype != op.cache.dtype)
    throw DefectError("cache_store: columns [{}, {}) of {} {}, {} slots, cache {} {} do not fit", op.x.first,
                      op.x.first + w, name_of(op.x.matrix.dtype), to_string(op.x.matrix.shape), n,
                      name_of(op.cache.dtype), to_string(op.cache.shape));
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::cache_store(stream, op);
  cpu::cache_store(stream, op);
}

void cache_move(Stream& stream, const CacheMove& op) {
  const ProfileScope scope(stream, "cache_move");
  if (op.from.elements() != op.to.elements() || op.cache.shape.rank() != 3)
    throw DefectError("cache_move: from {} slots to {} of cache {}", op.from.elements(), op.to.elements(),
                      to_string(op.cache.shape));
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) return cuda::cache_move(stream, op);
  cpu::cache_move(stream, op);
}

void cached_attention(Stream& stream, const CachedAttention& op) {
  const ProfileScope scope(stream, "cached_attention");
  const AttentionHeads& h = op.heads;
  const std::int64_t n = op.slots.elements();
  if (op.qkv.elements() != n * (h.query + 2 * h.key_value) * h.dim ||
      op.out.elements() != n * h.query * h.dim || op.cache.shape.rank() != 3 ||
      op.cache.shape[2] != 2 * h.key_value * h.dim || h.key_value == 0 || h.query % h.key_value != 0 ||
      op.cache.dtype != op.qkv.dtype)
    throw DefectError(
        "cached_attention: qkv {} {}, cache {} {}, out {} do not fit {} rows of {} query and {} key/value "
        "heads of {}",
        name_of(op.qkv.dtype), to_string(op.qkv.shape), name_of(op.cache.dtype), to_string(op.cache.shape),
        to_string(op.out.shape), n, h.query, h.key_value, h.dim);
  if (op.paths.defined() &&
      (op.paths.shape.rank() != 2 || op.paths.shape[0] != n || op.positions.elements() != n))
    throw DefectError("cached_attention: paths {} and {} positions do not fit {} rows",
                      to_string(op.paths.shape), op.positions.elements(), n);
  if constexpr (with_cuda)
    if (stream.device() == DeviceKind::cuda) {
      if (h.dim > 256 || h.dim % 2 != 0)
        throw DefectError("cached_attention: heads of {}, expected an even size of at most 256", h.dim);
      return cuda::cached_attention(stream, op);
    }
  cpu::cached_attention(stream, op);
}

}  // namespace foretoken
