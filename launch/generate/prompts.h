#pragma once
// The prompts of generate: from the command line, from files and from standard input.

#include <optional>
#include <string>
#include <vector>

#include "launch/generate/generate_arguments.h"
#include "parallel/comm/mpi_communicator.h"

namespace foretoken {

struct Prompts {
  std::vector<std::string> texts;         // prompts of --prompt, then prompts of --prompt-file
  std::optional<std::size_t> from_input;  // index of the prompt that is to be read from standard input
};

/// Reads the prompts, except standard input ("-"). Throws a UsageError if there is no prompt, if a prompt is
/// empty or if several are "-"; a DataError for a file that cannot be read.
Prompts read_prompts(const GenerateArguments& arguments);

/// Reads standard input on rank 0, the only rank that has one, and sends it to the others. Throws a
/// UsageError if it is empty, a DataError if it cannot be read or is longer than most_prompt_bytes.
/// Collective.
void read_standard_input(Prompts& prompts, MpiCommunicator& world);

}  // namespace foretoken
