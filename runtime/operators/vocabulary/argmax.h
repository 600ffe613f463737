#pragma once
// The K most likely tokens of each row of logits.
//
//   out[n, k] = the index i < count of the k-th largest x[n, i]; ties go to the lowest index
//
// If one of a row's first `count` values is a NaN, or the largest is not finite, all its K results are −1.
// A tensor marked "=" is overwritten; the others are read.

#include "runtime/stream.h"

namespace foretoken {

struct Argmax {
  Tensor x;                // [N, V] f32
  std::int64_t count = 0;  // the first `count` columns are searched
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
