#pragma once
// `foretoken tokenize`: converts text files and folders into a token dataset (io/datasets/token_dataset.h).

#include <filesystem>
#include <string>
#include <vector>

namespace foretoken {

struct TokenizeOptions {
  std::vector<std::filesystem::path> paths = {};  // files and folders, read as in io/datasets/text_source.h
  std::filesystem::path output = {};
  std::string tokenizer = "bytes";
  /// If set, whole documents with about validation_fraction of all tokens are written to this file instead
  /// (launch/commands/document_split.h). The text is then read twice.
  std::filesystem::path validation_output = {};
  double validation_fraction = 0.01;
};

/// Shows progress on stderr and prints a summary on stdout at the end. Returns the exit code. The outputs
/// appear complete or not at all. Throws a UsageError for invalid options; a DataError for a path that does
/// not exist, if there is no text, if one side of the split has no document, or if the text
/// changes while it is split.
int tokenize(const TokenizeOptions& options);

}  // namespace foretoken
