#pragma once
// Questions to other programs: short shell commands whose output is read.

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace foretoken {

struct Answer {
  int code = -1;     // exit code; -1: the command could not be run, or a signal ended it
  std::string text;  // stdout, with stderr if asked for
};

enum class ErrorOutput { discarded, included };

/// Runs a shell command without input; coreutils' timeout ends it after `limit`.
Answer ask(const std::string& command, std::chrono::seconds limit,
           ErrorOutput errors = ErrorOutput::discarded);

/// The lines of a text that are not empty.
std::vector<std::string> lines_of(const std::string& text);

/// Whether PATH has a program of this name.
bool is_in_path(std::string_view program);

}  // namespace foretoken
