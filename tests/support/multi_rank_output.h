#pragma once
// The output of ranks other than 0: kept aside, and shown with the rank before each line when it is asked for
// or when the process dies of a signal.

namespace foretoken::multi_rank {

/// Sends stdout and stderr of this process to a file without a name.
void hold_output(int rank);
/// Shows on the true stderr what was held; nothing where nothing is held.
void show_held_output();

}  // namespace foretoken::multi_rank
