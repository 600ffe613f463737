#pragma once
// Proves that a lowered program completes, and computes the memory that it needs, before anything is
// allocated and without ranks.

#include <vector>

#include "parallel/program.h"

namespace foretoken {

/// The memory high-water marks of a program, per virtual stage.
struct ProgramFootprint {
  /// Number of slots per stage: microbatch m of stage s occupies slot m mod slots[s] from its first action
  /// (the posting of its receive, mostly) to the end of its backward (of its forward in an evaluation), and
  /// no two that live at once share a slot. A send out of a slot is complete before the slot's next
  /// microbatch writes the same buffer.
  std::vector<int> slots;
  /// The most microbatches that hold activations at once: forward done, backward not. None in an evaluation.
  std::vector<int> in_flight;
};

/// Checks that every stage runs every microbatch exactly once, forward and backward (whole or in both halves;
/// a program without any backward is an evaluation, of forwards alone), each action after what it waits for
/// on its rank; that every message has both ends and is needed; that each ordered pair of ranks sends and
/// receives in the same order in each direction; and that no rank ever waits for good, with sends that
/// complete only when their receive is posted. A UsageError names rank, index and action.
ProgramFootprint validate_program(const Program& lowered);

}  // namespace foretoken
