#include "model/layers/rope_tables.h"

#include "runtime/operators/dispatch.h"
#include "runtime/operators/rowwise/elementwise.h"
#include "runtime/operators/rowwise/rope.h"

namespace foretoken {

RopeTables make_rope_tables(Stream& stream, Arena& arena, const ModelConfig& model, std::int64_t positions,
                            DType dtype) {
  const Shape shape{positions, model.head_dim / 2};
  const DType statistics = statistics_dtype(dtype);
  const RopeTables tables{.cos = arena.tensor(statistics, shape, MemoryKind::workspace),
                          .sin = arena.tensor(statistics, shape, MemoryKind::workspace)};
  if (arena.counts_only()) return tables;
  Arena host(DeviceKind::cpu);
  const Tensor cos = host.tensor(statistics, shape), sin = host.tensor(statistics, shape);
  rope_table(cos, sin, model.rope_theta);
  copy(stream, cos, tables.cos);
  copy(stream, sin, tables.sin);
  stream.synchronize();
  return tables;
}

}  // namespace foretoken
