#pragma once
// Proves that a lowered program completes and computes the memory that it needs, without ranks and before
// anything is allocated.

#include <vector>

#include "parallel/pipeline/program.h"

namespace foretoken {

/// The memory high-water marks of a program, per virtual stage.
struct ProgramFootprint {
  /// Number of slots per stage. Microbatch m of stage s occupies slot m mod slots[s] from its first action
  /// (usually the posting of its receive) to the end of its backward (in an evaluation: of its forward). Two
  /// microbatches that are live at the same time never share a slot. A send from a slot completes before the
  /// slot's next microbatch writes the same buffer.
  std::vector<int> slots;
  /// By stage: maximum number of microbatches whose forward has run and whose backward has not, so that their
  /// activations are in memory. 0 in an evaluation.
  std::vector<int> in_flight;
};

/// Checks that
///   - every stage runs every microbatch exactly once, forward and backward (whole or in two halves; a
///     program without any backward is an evaluation and has forwards only),
///   - each action follows its prerequisites on the same rank,
///   - every message has a send and a receive, and a compute action needs it,
///   - each ordered pair of ranks sends and receives in the same order in each direction,
///   - no deadlock is possible, even if a send completes only when its receive is posted.
/// Throws UsageError that names rank, index and action.
ProgramFootprint validate_program(const Program& lowered);

}  // namespace foretoken
