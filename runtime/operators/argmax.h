#pragma once
// The likeliest tokens of each row of logits.
//
//   out[n, k] = the i < count for which x[n, i] is the k-th largest, the lowest of equals first; −1 for all k
//   where one of them is not a number or the largest is not finite

#include "runtime/stream.h"

namespace foretoken {

struct Argmax {
  Tensor x;                // [N, V] f32
  std::int64_t count = 0;  // columns that take part, from the first
  Tensor out;              // [N, K] i32 =, K ≤ count
};
void argmax(Stream& stream, const Argmax& op);

namespace cpu {
void argmax(Stream& stream, const Argmax& op);
}  // namespace cpu
namespace cuda {
void argmax(Stream& stream, const Argmax& op);
}  // namespace cuda

}  // namespace foretoken
