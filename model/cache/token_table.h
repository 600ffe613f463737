#pragma once
// The embedding table of a model that generates text. A token may also be a placeholder for one that the
// device has chosen and that the host has not read yet.

#include "runtime/stream.h"

namespace foretoken {

struct TokenTable {
  Tensor table;   // [V, C]
  Tensor chosen;  // [chosen tokens] i32: −1 − m stands for chosen[m]; undefined if this rank chooses none

  /// out[n] = table[tokens[n]], tokens [N] i32, out [N, C]
  void embed(Stream& stream, const Tensor& tokens, const Tensor& out) const;
};

}  // namespace foretoken
