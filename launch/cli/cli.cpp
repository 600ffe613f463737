#include "launch/cli/cli.h"

#include <algorithm>
#include <array>
#include <map>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "launch/cli/flags.h"
#include "launch/cli/help.h"
#include "launch/cli/hints.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

/// CLI11 parses "[a,b]" as a list if an option takes several values, so no file could have such a name. A NUL
/// byte, which no argument can contain, is appended to such arguments and removed from the values.
std::vector<std::string> marked_as_literal(std::vector<std::string> arguments) {
  for (std::string& argument : arguments)
    if (argument.starts_with('[') && argument.ends_with(']')) argument += '\0';
  return arguments;
}

/// Names the values of flags for --help, such as FILE.
void name_values(CLI::App& app) {
  const std::map<std::string, const char*> types{{"--output", "FILE"},
                                                 {"--validation-output", "FILE"},
                                                 {"--data", "FILE"},
                                                 {"--metrics", "FILE"},
                                                 {"--prompt-file", "FILE"},
                                                 {"--hostfile", "FILE"},
                                                 {"--resume", "PATH"},
                                                 {"--from", "PATH"},
                                                 {"--run-directory", "FOLDER"},
                                                 {"--run", "FOLDER"},
                                                 {"--save", "FILE"},
                                                 {"--profile", "FILE"},
                                                 {"--compare", "RUN"},
                                                 {"--point", "NAME"},
                                                 {"--tokenizer", "NAME"},
                                                 {"--device", "NAME"},
                                                 {"--launcher", "COMMAND"},
                                                 {"--set", "KEY=VALUE"}};
  for (CLI::App* command : app.get_subcommands({})) {
    command->group("Commands");
    for (CLI::Option* option : command->get_options())
      if (const auto type = types.find(option->get_name()); type != types.end())
        option->type_name(type->second);
  }
}

void remove_literal_marks(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands({}))
    for (CLI::Option* option : command->get_options())
      option->transform(CLI::Validator(
          [](std::string& value) {
            if (value.ends_with('\0')) value.pop_back();
            return std::string();
          },
          "", ""));
}

std::string with_help(const std::string& message, const std::string& command) {
  return fmt::format("{}{} {} --help", message, message.ends_with('?') ? " See" : "; see", command);
}

/// Throws a UsageError for arguments that CLI11 does not accept. If there is a hint, it replaces CLI11's
/// message, which reports a missing argument even if the cause is a misspelt flag.
[[noreturn]] void refuse(const CLI::App& app, const CLI::App* command,
                         const std::vector<std::string>& arguments, const std::string& what) {
  if (command == nullptr && !arguments.empty() && !arguments.front().starts_with('-'))
    throw UsageError("command line: {}", with_help(unknown_command(app, arguments.front()), "foretoken"));
  if (arguments.empty()) throw UsageError("command line: no command is given; see foretoken --help");
  if (command == nullptr)
    throw UsageError("command line: {}", with_help(unknown_flag(app, arguments).value_or(what), "foretoken"));
  const std::string name = command->get_name();
  const auto first = std::find(arguments.begin(), arguments.end(), name) + 1;
  throw UsageError(
      "{}: {}", name,
      with_help(unknown_flag(*command, {first, arguments.end()}).value_or(what), "foretoken " + name));
}

}  // namespace

void add_texts(CLI::App& command, const char* name, std::vector<std::string>& values, const char* help) {
  command.add_option(name, values, help)->take_all()->allow_extra_args(false);
}

Command parse_command_line(const std::vector<std::string>& arguments) {
  CLI::App app("Foretoken trains language models that predict several tokens ahead.", "foretoken");
  app.set_version_flag("--version", "foretoken " FORETOKEN_VERSION);
  app.require_subcommand(1);
  app.formatter(std::make_shared<HelpFormatter>());  // commands inherit it
  app.footer(
      "foretoken COMMAND --help describes the arguments of a command.\n\nExample:\n  foretoken train --help");
  const std::array<CommandFlags, 10> commands{
      add_tokenize(app), add_train(app),  add_evaluate(app), add_generate(app), add_study(app),
      add_run(app),      add_doctor(app), add_report(app),   add_plan(app),     add_inspect(app)};
  name_values(app);
  remove_literal_marks(app);

  const auto chosen = [&]() -> const CLI::App* {
    const auto found = app.get_subcommands();
    return found.empty() ? nullptr : found.front();
  };
  try {
    std::vector<std::string> literal = marked_as_literal(arguments);
    std::reverse(literal.begin(), literal.end());  // CLI11 takes arguments from the back
    app.parse(literal);
  } catch (const CLI::CallForHelp&) {
    return PrintText{app.help()};
  } catch (const CLI::CallForVersion& version) {
    return PrintText{std::string(version.what()) + "\n"};
  } catch (const CLI::ParseError& error) {
    refuse(app, chosen(), arguments, error.what());
  }
  const CLI::App* const command = chosen();
  return std::find_if(commands.begin(), commands.end(), [&](const auto& one) { return one.app == command; })
      ->finish();
}

}  // namespace foretoken
