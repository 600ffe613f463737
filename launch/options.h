#pragma once
// The table of options: every setting declared once. The configuration file, --set, --print-config, --help
// and the README's table are all read off it.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "launch/config.h"

namespace foretoken {

using NumberPair = std::pair<double, double>;
using OptionValue =
    std::variant<bool, std::int64_t, double, std::string, std::vector<double>, std::vector<NumberPair>>;

/// The values an option takes: a number is checked against it, an error and the table quote the text.
struct OptionDomain {
  std::string text;  // "at least 1"; empty where any value will do
  std::function<bool(double)> holds = [](double) { return true; };
};

struct Option {
  enum class Type { boolean, integer, number, text, choice, numbers, pairs };

  std::string section;
  std::string key;
  Type type = Type::text;
  std::string help;
  OptionDomain domain;               // of every number in it
  std::vector<std::string> choices;  // of Type::choice
  bool fixed = false;                // a resumed run may not change it
  /// A choice is held as its name.
  std::function<OptionValue(const Config&)> get;
  /// Takes a value of the option's type, within its domain or choices.
  std::function<void(Config&, const OptionValue&)> set;

  std::string name() const { return section + "." + key; }
};

/// In the order of the file: sections together, keys as a reader wants them.
const std::vector<Option>& options();

/// nullptr where there is no such option.
const Option* find_option(std::string_view section, std::string_view key);

/// "; did you mean hidden_size?" for what comes close to a misspelt key of the section, to a key of another
/// section or, where the section is unknown, to a section; empty where nothing does.
std::string suggestion(std::string_view section, std::string_view key);

/// The value as TOML writes it; reading it back gives the same value.
std::string to_toml(const OptionValue& value);

/// The option's type or choices in words: "integer, at least 1".
std::string describe_type(const Option& option);

/// All options with type, default and meaning: for a terminal, and as Markdown tables for the README.
std::string option_help();
std::string option_markdown();

}  // namespace foretoken
