#pragma once
// Elementwise operators.

#include "runtime/stream.h"

namespace foretoken {

/// out = 0
void set_zero(Stream& stream, const Tensor& out);
/// out = value
void fill(Stream& stream, const Tensor& out, double value);
/// out = x; both have the same dtype. On a GPU's stream, either tensor may be on the host; the copy of
/// page-locked host memory is asynchronous.
void copy(Stream& stream, const Tensor& x, const Tensor& out);
/// out = x, rounded to out's dtype
void convert(Stream& stream, const Tensor& x, const Tensor& out);
/// out += x
void add(Stream& stream, const Tensor& x, const Tensor& out);

namespace cpu {
void set_zero(Stream& stream, const Tensor& out);
void fill(Stream& stream, const Tensor& out, double value);
void copy(Stream& stream, const Tensor& x, const Tensor& out);
void convert(Stream& stream, const Tensor& x, const Tensor& out);
void add(Stream& stream, const Tensor& x, const Tensor& out);
}  // namespace cpu
namespace cuda {
void set_zero(Stream& stream, const Tensor& out);
void fill(Stream& stream, const Tensor& out, double value);
void copy(Stream& stream, const Tensor& x, const Tensor& out);
void convert(Stream& stream, const Tensor& x, const Tensor& out);
void add(Stream& stream, const Tensor& x, const Tensor& out);
}  // namespace cuda

}  // namespace foretoken
