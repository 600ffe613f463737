#pragma once
// foretoken generate: continues prompts, from a checkpoint of any layout. On several ranks the model is
// spread over all of them (model/decoder/trunk_pipeline.h), and rank 0 prints the text.

#include "launch/generate/generate_arguments.h"

namespace foretoken {

/// Prints text to stdout as it is generated, several prompts one after another, or a line of JSON per text.
/// Statistics, and why each text ended, go to stderr.
/// Returns the exit code.
int generate(const GenerateArguments& arguments);

}  // namespace foretoken
