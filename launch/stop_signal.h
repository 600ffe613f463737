#pragma once
// Signals that ask a run to stop: it writes a checkpoint after the step under way and ends with code 75.
// SIGUSR1 is what Slurm sends ahead of a time limit (and mpirun forwards); SIGTERM and SIGINT leave a second
// or so.

namespace foretoken {

/// From here on the signals set a flag. A second SIGTERM or SIGINT ends the process as usual.
void catch_stop_signals();
/// The signal that came, 0 while none has.
int stop_signal();

}  // namespace foretoken
