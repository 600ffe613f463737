#pragma once
// What rank 0 prints before the first step: which rank holds what and what share of the time it is expected
// to take.

#include <string>

#include "launch/session.h"

namespace foretoken {

/// Model, batch and layout in a few lines, then a line per pipeline rank:
///
///   rank   pp  holds                                  parameters  time
///   0, 2    0  embedding, layers 0-3                     0.83 M   52 %
std::string startup_table(const Session& session);

/// "NVIDIA H100 80GB HBM3 in bf16, NCCL 2.28.9", or why it is "cpu".
std::string device_text(Session& session);

}  // namespace foretoken
