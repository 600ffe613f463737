#pragma once
// What a command that takes RUN|CHECKPOINT builds its model from.

#include <string>

#include "io/checkpoint_reader.h"

namespace foretoken {

/// The newest checkpoint at `path` whose manifest can be read: its settings say what model to build.
/// load_checkpoint() (launch/resume.h) then names those that it passes over. A DataError where there is none.
Checkpoint newest_readable(const std::string& path);

}  // namespace foretoken
