#pragma once
// The likeliest token of each row of logits.
//
//   out[n] = the lowest i < count where x[n, i] is largest; −1 where one of them is not a number or the
//   largest is not finite

#include "runtime/stream.h"

namespace foretoken {

struct Argmax {
  Tensor x;                // [N, V] f32
  std::int64_t count = 0;  // columns that take part, from the first
  Tensor out;              // [N] i32 =
};
void argmax(Stream& stream, const Argmax& op);

namespace cpu {
void argmax(Stream& stream, const Argmax& op);
}  // namespace cpu
namespace cuda {
void argmax(Stream& stream, const Argmax& op);
}  // namespace cuda

}  // namespace foretoken
