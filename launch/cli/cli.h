#pragma once
// The command line: foretoken COMMAND. Parsing is separate from running, so that tests can parse any command
// line without running it.

#include <string>
#include <variant>
#include <vector>

#include "launch/commands/doctor.h"
#include "launch/commands/evaluate.h"
#include "launch/commands/plan.h"
#include "launch/commands/tokenize.h"
#include "launch/commands/train.h"
#include "launch/config/config.h"
#include "launch/generate/generate.h"
#include "launch/report/report.h"
#include "launch/study/study.h"
#include "launch/supervisor/supervisor.h"

namespace foretoken {

/// --help, --version, --print-config, --list-options: prints a text and does nothing else.
struct PrintText {
  std::string text;
};

struct TrainCommand {
  Config config;  // file, run and flags are applied; not yet cross-checked
  TrainArguments arguments;
};

struct SuperviseCommand {
  Config config;  // file and flags are applied; not yet cross-checked
  RunArguments arguments;
};

struct DoctorCommand {
  Config config;  // file and flags are applied; not yet cross-checked
  DoctorArguments arguments;
};

struct PlanCommand {
  Config config;  // file and flags are applied; not yet cross-checked
  PlanArguments arguments;
};

struct InspectArguments {
  std::string path;
  bool verify = false;
  bool flight = false;
};

using Command = std::variant<PrintText, TokenizeOptions, TrainCommand, StudyArguments, EvaluateArguments,
                             GenerateArguments, InspectArguments, SuperviseCommand, DoctorCommand,
                             ReportArguments, PlanCommand>;

/// Parses the arguments after the program's name. Throws a UsageError for arguments that the program does not
/// accept.
Command parse_command_line(const std::vector<std::string>& arguments);

}  // namespace foretoken
