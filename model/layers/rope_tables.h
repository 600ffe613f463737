#pragma once
// The rotary position tables of a model, on its device.

#include "model/config.h"
#include "runtime/arena.h"
#include "runtime/stream.h"

namespace foretoken {

struct RopeTables {
  Tensor cos, sin;  // [positions, HS/2] in the statistics' dtype
};

/// Plans the tables in the arena and fills them, for activations of `dtype`. Waits for the stream.
RopeTables make_rope_tables(Stream& stream, Arena& arena, const ModelConfig& model, std::int64_t positions,
                            DType dtype);

}  // namespace foretoken
