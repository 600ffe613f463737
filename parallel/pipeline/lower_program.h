#pragma once
// Adds the sends and receives to a program of compute actions, so that ranks can run it.

#include "parallel/pipeline/program.h"

namespace foretoken {

/// Adds a message for every prerequisite on another rank. A send follows the action whose result it carries.
/// A receive is posted ahead of the compute action before the one that needs it, so that the transfer runs
/// under compute; its wait is implicit, before the action that needs it. Stages on one rank exchange no
/// message.
///
/// For each ordered pair of ranks and each direction (activations, gradients), receives are posted in the
/// order of the sends, because channels such as NCCL's are ordered. If the receiver uses the messages in
/// another order than they are sent, some receives are posted earlier than necessary.
///
/// Throws UsageError if the program already has messages, or an action out of its shape's range, or if no
/// action fulfils a prerequisite.
Program lower_program(const Program& compute);

}  // namespace foretoken
