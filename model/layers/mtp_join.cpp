#include "model/layers/mtp_join.h"

namespace foretoken {

MtpJoin::MtpJoin(const ModelConfig& config, const MtpConfig& mtp, const Parameters& parameters,
                 const std::string& prefix)
    : eps_(config.rms_norm_eps),
      embedded_column_(mtp.concat == MtpConfig::Concat::embedding_first ? 0 : config.hidden_size),
      hidden_column_(config.hidden_size - embedded_column_),
      enorm_(parameters.weight(prefix + ".enorm.weight")),
      hnorm_(parameters.weight(prefix + ".hnorm.weight")) {}

void MtpJoin::norm_embedded(Stream& stream, const Forward& op) const {
  rms_norm_forward(
      stream, {.x = op.x, .weight = enorm_, .eps = eps_, .out = embedded_half(op.joined), .rstd = op.rstd});
}

void MtpJoin::norm_hidden(Stream& stream, const Forward& op) const {
  rms_norm_forward(
      stream, {.x = op.x, .weight = hnorm_, .eps = eps_, .out = hidden_half(op.joined), .rstd = op.rstd});
}

}  // namespace foretoken
