#include "launch/cli/help.h"

#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "launch/console/columns.h"

namespace foretoken {

namespace {

constexpr std::size_t help_column = 34;

/// "not with --draft, --tree"; empty for no options.
std::string relation(const char* what, const std::set<CLI::Option*>& options) {
  std::set<std::string> names;
  for (const CLI::Option* option : options) names.insert(option->get_name());
  return names.empty() ? "" : fmt::format("{} {}", what, fmt::join(names, ", "));
}

/// Example: " (default: 0.01; needs --validation-output)".
std::string notes_on(const CLI::Option& option) {
  std::vector<std::string> notes;
  if (option.get_required() && option.nonpositional()) notes.emplace_back("required");
  if (!option.get_default_str().empty()) notes.push_back("default: " + option.get_default_str());
  notes.push_back(relation("needs", option.get_needs()));
  notes.push_back(relation("not with", option.get_excludes()));
  std::erase(notes, "");
  return notes.empty() ? "" : fmt::format(" ({})", fmt::join(notes, "; "));
}

}  // namespace

HelpFormatter::HelpFormatter() {
  label("SUBCOMMAND", "COMMAND");
  label("Positionals", "Arguments");
}

std::string HelpFormatter::make_option(const CLI::Option* option, bool is_positional) const {
  std::string left = "  " + make_option_name(option, is_positional);
  if (!is_positional && option->get_type_size() != 0) left += " " + option->get_type_name();
  return in_columns(left + " ", option->get_description() + notes_on(*option), help_column);
}

std::string HelpFormatter::make_subcommand(const CLI::App* command) const {
  return in_columns("  " + command->get_name() + " ", command->get_description(), 13);
}

}  // namespace foretoken
