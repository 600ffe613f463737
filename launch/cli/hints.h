#pragma once
// Hints for arguments that a command does not have: what the user probably meant.

#include <optional>
#include <span>
#include <string>

#include <CLI/CLI.hpp>

namespace foretoken {

/// "there is no flag --promt; did you mean --prompt?" for the first argument that is no flag of the command.
/// For the name of a setting the hint is its --set. Empty if all flags exist. `arguments` are those after the
/// command.
std::optional<std::string> unknown_flag(const CLI::App& command, std::span<const std::string> arguments);

/// Example: "there is no command trian; did you mean train?"
std::string unknown_command(const CLI::App& app, const std::string& name);

}  // namespace foretoken
