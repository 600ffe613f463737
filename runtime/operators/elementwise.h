#pragma once
// Elementwise operators on buffers of one dtype.

#include "runtime/stream.h"

namespace foretoken {

/// out = 0
void set_zero(Stream& stream, const Tensor& out);
/// out = x
void copy(Stream& stream, const Tensor& x, const Tensor& out);
/// out += x
void add(Stream& stream, const Tensor& x, const Tensor& out);

}  // namespace foretoken
