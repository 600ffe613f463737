#include "launch/cli/hints.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "launch/config/options.h"
#include "launch/config/spelling.h"

namespace foretoken {

namespace {

/// An argument, split into flag and value: "--lr=1e-3", or "--lr" and the next argument "1e-3".
struct Argument {
  std::string flag;   // "--lr"
  std::string name;   // "lr"
  std::string value;  // empty: no value was given

  Argument(std::string_view text, std::string_view next) {
    const std::size_t equals = std::min(text.find('='), text.size());
    flag = text.substr(0, equals);
    name = flag.substr(std::min(flag.find_first_not_of('-'), flag.size()));
    if (equals < text.size())
      value = text.substr(equals + 1);
    else if (!next.starts_with('-'))
      value = next;
  }
};

bool is_flag(std::string_view text) {
  return text.size() > 1 && text.front() == '-' && text != "--";
}

/// Whether the next argument is the value of this one, even if it begins with "-".
bool takes_value(const CLI::App& command, std::string_view text) {
  if (!is_flag(text) || text.find('=') != std::string_view::npos) return false;
  const CLI::Option* option = command.get_option_no_throw(std::string(text));
  return option != nullptr && option->get_type_size() != 0;
}

/// All settings with this key or this name. Other programs write keys with dashes.
std::vector<std::string> settings_named(std::string key) {
  std::replace(key.begin(), key.end(), '-', '_');
  std::vector<std::string> names;
  for (const Option& option : options())
    if (option.key == key || option.name() == key) names.push_back(option.name());
  return names;
}

std::string settings_hint(std::span<const std::string> names, const std::string& value) {
  std::vector<std::string> sets;
  for (const std::string& name : names)
    sets.push_back(fmt::format("--set {}={}", name, value.empty() ? "VALUE" : value));
  return fmt::format("; did you mean {}?", fmt::join(sets, " or "));
}

std::string hint_for(const CLI::App& command, const Argument& argument) {
  const bool has_settings = command.get_option_no_throw("--set") != nullptr;
  const auto exact = settings_named(argument.name);
  if (has_settings && !exact.empty()) return settings_hint(exact, argument.value);
  std::vector<std::string> flags;
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames()) flags.push_back(name);
  const std::string flag = closest_spelling(argument.name, flags);
  if (!flag.empty()) return fmt::format("; did you mean --{}?", flag);
  if (!has_settings) return "";
  std::vector<std::string> keys;
  for (const Option& option : options()) keys.push_back(option.key);
  const std::string key = closest_spelling(argument.name, keys);
  return key.empty() ? "" : settings_hint(settings_named(key), argument.value);
}

}  // namespace

std::optional<std::string> unknown_flag(const CLI::App& command, std::span<const std::string> arguments) {
  for (std::size_t i = 0; i < arguments.size() && arguments[i] != "--"; ++i) {
    if (i > 0 && takes_value(command, arguments[i - 1])) continue;
    const std::string& text = arguments[i];
    const Argument argument(text, i + 1 < arguments.size() ? arguments[i + 1] : "");
    if (is_flag(text)) {
      const bool is_short = text[1] != '-';
      const std::string name = is_short ? text.substr(0, 2) : argument.flag;
      if (command.get_option_no_throw(name) != nullptr) continue;
      return fmt::format("there is no flag {}{}", argument.flag, hint_for(command, argument));
    }
    // The user may have left out --set before a setting.
    const bool is_assignment = text.find('=') != std::string::npos && text.find('.') < text.find('=');
    if (!is_assignment || command.get_option_no_throw("--set") == nullptr) continue;
    if (const auto names = settings_named(argument.name); !names.empty())
      return fmt::format("unexpected argument {}{}", text, settings_hint(names, argument.value));
  }
  return std::nullopt;
}

std::string unknown_command(const CLI::App& app, const std::string& name) {
  std::vector<std::string> commands;
  for (const CLI::App* command : app.get_subcommands({})) commands.push_back(command->get_name());
  const std::string meant = closest_spelling(name, commands);
  return fmt::format("there is no command {}{}", name,
                     meant.empty() ? "" : fmt::format("; did you mean {}?", meant));
}

}  // namespace foretoken
