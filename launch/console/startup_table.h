#pragma once
// The table that rank 0 prints before the first step: which rank holds what, and its expected share of the
// time.

#include <string>

#include "launch/training/session.h"

namespace foretoken {

/// Model, batch and layout in a few lines, then one line per pipeline rank:
///
///   rank   pp  holds                                  parameters  time
///   0, 2    0  embedding, layers 0-3                     0.83 M   52 %
std::string startup_table(const Session& session);

/// "NVIDIA H100 80GB HBM3 in bf16, NCCL 2.28.9", or the reason for "cpu".
std::string device_text(Session& session);

}  // namespace foretoken
