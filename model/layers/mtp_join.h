#pragma once
// The first step of an MTP module (model/layers/mtp_module.h), in training and in text generation. It
// normalizes both inputs and joins them into rows of 2C elements, the input of eh_proj:
//
//   joined = [ RMSNorm(embedded; enorm) ; RMSNorm(hidden; hnorm) ]    or in reverse order, MtpConfig::concat

#include <string>

#include "model/config.h"
#include "runtime/operators/parameters/parameters.h"
#include "runtime/operators/rowwise/rms_norm.h"

namespace foretoken {

class MtpJoin {
 public:
  /// Reads the weights `prefix`.enorm.weight and `prefix`.hnorm.weight.
  MtpJoin(const ModelConfig& config, const MtpConfig& mtp, const Parameters& parameters,
          const std::string& prefix);

  struct Forward {
    Tensor x;       // [N, C] or [B, T, C]
    Tensor joined;  // [N, 2C]; the function overwrites one half of its columns
    Tensor rstd;    // [N], overwritten
  };
  void norm_embedded(Stream& stream, const Forward& op) const;
  void norm_hidden(Stream& stream, const Forward& op) const;

  /// The halves of `joined`, or of its gradient.
  Columns embedded_half(const Tensor& joined) const { return {joined, embedded_column_}; }
  Columns hidden_half(const Tensor& joined) const { return {joined, hidden_column_}; }

 private:
  double eps_;
  std::int64_t embedded_column_, hidden_column_;  // where the halves start
  Tensor enorm_, hnorm_;                          // [C]
};

/// Whether the module of this depth reads the previous depth's hidden state after that depth's norm or, if
/// false, before it.
inline bool reads_normed(const MtpConfig& mtp, int depth) {
  return (depth == 1 ? mtp.trunk_hidden : mtp.recycled_hidden) == MtpConfig::Hidden::normed;
}

}  // namespace foretoken
