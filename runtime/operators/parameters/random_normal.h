#pragma once
// Counter-based normal numbers: out[i] = std · rng.normal(i), rounded to f32 before the conversion to out's
// dtype.

#include "runtime/random.h"
#include "runtime/stream.h"

namespace foretoken {

struct RandomNormal {
  Tensor out;  // f32 or f64, overwritten
  CounterRng rng;
  double std = 1;
};
void random_normal(Stream& stream, const RandomNormal& op);

namespace cpu {
void random_normal(Stream& stream, const RandomNormal& op);
}  // namespace cpu
namespace cuda {
void random_normal(Stream& stream, const RandomNormal& op);
}  // namespace cuda

}  // namespace foretoken
