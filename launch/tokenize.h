#pragma once
// `foretoken tokenize`: text files and folders into a token dataset (io/token_dataset.h).

#include <filesystem>
#include <string>
#include <vector>

namespace foretoken {

struct TokenizeOptions {
  std::vector<std::filesystem::path> paths = {};  // files and folders, read as io/text_source.h says
  std::filesystem::path output = {};
  std::string tokenizer = "bytes";
  /// Where given, whole documents go here instead, chosen by a hash of their number so that the choice is the
  /// same every time and about validation_fraction of them land here.
  std::filesystem::path validation_output = {};
  double validation_fraction = 0.01;
};

/// Shows progress on standard error and ends with a summary on standard output. Returns the exit code. The
/// outputs appear whole or not at all. UsageError for options that make no sense; DataError for a path that
/// does not exist, for no text at all, or for no document on one side of the split.
int tokenize(const TokenizeOptions& options);

}  // namespace foretoken
