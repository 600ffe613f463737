#pragma once
// Stores the output of ranks other than 0. The output is printed, with the rank before each line, on request
// or if the process dies of a signal.

namespace foretoken::multi_rank {

/// Redirects stdout and stderr of this process to an unnamed file.
void hold_output(int rank);
/// Prints the stored output to the original stderr; does nothing if no output is stored.
void show_held_output();

}  // namespace foretoken::multi_rank
