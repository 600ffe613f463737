#pragma once
// What every layer of a stage shares while it runs one microbatch.

#include "runtime/stream.h"

namespace foretoken {

/// The size of a microbatch.
struct MicrobatchShape {
  std::int64_t rows = 0;                                 // B
  std::int64_t length = 0;                               // T
  std::int64_t tokens() const { return rows * length; }  // N
};

struct LayerContext {
  Stream& stream;
  Tensor rope_cos;        // [T, HS/2]
  Tensor rope_sin;        // [T, HS/2]
  Tensor document_start;  // [B, S] i32; undefined where attention may cross document borders
};

}  // namespace foretoken
