#pragma once
// The command line: foretoken COMMAND. Parsing is apart from running, so that every command line can be
// tested without running anything.

#include <string>
#include <variant>
#include <vector>

#include "launch/config.h"
#include "launch/evaluate.h"
#include "launch/generate.h"
#include "launch/study.h"
#include "launch/supervisor.h"
#include "launch/tokenize.h"
#include "launch/train.h"

namespace foretoken {

/// --help, --version, --print-config, --list-options: text for stdout, and nothing else to do.
struct PrintText {
  std::string text;
};

struct TrainCommand {
  Config config;  // file, run and flags applied; not cross-checked yet
  TrainArguments arguments;
};

struct SuperviseCommand {
  Config config;  // file and flags applied; not cross-checked yet
  RunArguments arguments;
};

struct InspectArguments {
  std::string path;
  bool verify = false;
  bool flight = false;
};

using Command = std::variant<PrintText, TokenizeOptions, TrainCommand, StudyArguments, EvaluateArguments,
                             GenerateArguments, InspectArguments, SuperviseCommand>;

/// The arguments behind the program's name. A UsageError for what it does not understand.
Command parse_command_line(const std::vector<std::string>& arguments);

}  // namespace foretoken
