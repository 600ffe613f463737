#pragma once
// The table that rank 0 prints before the first step: what each rank holds, and its expected share of the
// step's time.

#include <string>

#include "launch/session/session.h"

namespace foretoken {

/// Model, batch and layout in a few lines, then one line per pipeline rank, in lines of at most `columns`
/// characters. The memory is what plan_memory() counts (launch/session/rank_memory.h).
///
///   model      1.34 M parameters: 4 layers, hidden size 128, MLP 352, 4 heads of 32, vocabulary 257
///   ...
///     ranks  pp  parameters  time     memory  holds
///     0, 2    0      0.83 M  52 %    14.1 MB  embedding, layers 0-3
std::string startup_table(const SessionPlan& plan, int columns);

/// "NVIDIA H100 80GB HBM3 in bf16, NCCL 2.28.9", or the reason for "cpu".
std::string device_text(Session& session);

}  // namespace foretoken
