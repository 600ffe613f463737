#pragma once
// The rotary tables of a model on its device.

#include "model/config.h"
#include "runtime/arena.h"
#include "runtime/stream.h"

namespace foretoken {

struct RopeTables {
  Tensor cos, sin;  // [positions, HS/2] of the statistics' dtype
};

/// Planned in the arena and filled, for activations of `dtype`. Waits for the stream.
RopeTables make_rope_tables(Stream& stream, Arena& arena, const ModelConfig& model, std::int64_t positions,
                            DType dtype);

}  // namespace foretoken
