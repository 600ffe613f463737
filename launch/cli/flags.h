#pragma once
// The flags of each command, one file per command.

#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "launch/cli/cli.h"

namespace foretoken {

struct CommandFlags {
  const CLI::App* app;
  std::function<Command()> finish;  // of the parsed flags; throws a UsageError if they contradict each other
};

CommandFlags add_tokenize(CLI::App& app);
CommandFlags add_train(CLI::App& app);
CommandFlags add_evaluate(CLI::App& app);
CommandFlags add_generate(CLI::App& app);
CommandFlags add_study(CLI::App& app);
CommandFlags add_run(CLI::App& app);
CommandFlags add_doctor(CLI::App& app);
CommandFlags add_report(CLI::App& app);
CommandFlags add_plan(CLI::App& app);
CommandFlags add_inspect(CLI::App& app);

/// A flag that may be repeated, with one value each time.
void add_texts(CLI::App& command, const char* name, std::vector<std::string>& values, const char* help);

}  // namespace foretoken
