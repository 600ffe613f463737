#pragma once
// The embedding table of a model that generates text. A token may be one that the device has chosen and the
// host does not know yet.

#include "runtime/stream.h"

namespace foretoken {

struct TokenTable {
  Tensor table;   // [V, C]
  Tensor chosen;  // [M] i32: token −1 − m stands for chosen[m]; undefined where no tokens are chosen

  /// out[n] = table[tokens[n]], tokens [N] i32, out [N, C]
  void embed(Stream& stream, const Tensor& tokens, const Tensor& out) const;
};

}  // namespace foretoken
