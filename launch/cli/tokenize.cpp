#include <memory>

#include "launch/cli/flags.h"
#include "launch/config/number_flag.h"

namespace foretoken {

CommandFlags add_tokenize(CLI::App& app) {
  const auto parsed = std::make_shared<TokenizeOptions>();
  TokenizeOptions& into = *parsed;
  CLI::App* command = app.add_subcommand("tokenize", "Turn text files and folders into a token dataset");
  command->add_option("PATHS", into.paths, "text files and folders (searched recursively)")->required();
  command->add_option("-o,--output", into.output, "token dataset to write (HDF5)")->required();
  command->add_option("--tokenizer", into.tokenizer, "bytes (one token per byte)")->capture_default_str();
  auto* validation = command->add_option("--validation-output", into.validation_output,
                                         "token dataset of the documents held out for validation (HDF5)");
  add_number(*command, "--validation-fraction", into.validation_fraction, {0, 1},
             "fraction of all tokens to hold out, in whole documents", true)
      ->needs(validation);
  command->footer(
      "Example:\n  foretoken tokenize src/ notes.txt -o data.h5 --validation-output validation.h5");
  return {command, [parsed] { return *parsed; }};
}

}  // namespace foretoken
