#pragma once
// The table of options, which declares every setting once. The configuration file, --set, --print-config,
// --help and the table in launch/docs/configuration.md are generated from it.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "launch/config/config.h"

namespace foretoken {

using NumberPair = std::pair<double, double>;
using OptionValue =
    std::variant<bool, std::int64_t, double, std::string, std::vector<double>, std::vector<NumberPair>>;

/// The values that an option accepts. `holds` checks a number; `text` describes the values in errors and in
/// the table.
struct OptionDomain {
  std::string text;  // "at least 1"; empty if any value is valid
  std::function<bool(double)> holds = [](double) { return true; };
};

/// Derives an option's default from other options, which the same section of the file may set.
struct Derivation {
  std::vector<std::string> inputs;  // names of these options: "model.hidden_size"
  std::function<std::int64_t(const Config&)> value;
};

struct Option {
  enum class Type { boolean, integer, number, text, choice, numbers, pairs };

  std::string section;
  std::string key;
  Type type = Type::text;
  std::string help;
  OptionDomain domain;               // for every number in the value
  std::vector<std::string> choices;  // values of Type::choice
  bool fixed = false;                // a resumed run must not change it
  bool path = false;                 // a path: relative to the folder of the file that sets it
  std::optional<Derivation> derivation;
  /// A choice is represented by its name.
  std::function<OptionValue(const Config&)> get;
  /// Requires a value of the option's type that is in its domain or its choices.
  std::function<void(Config&, const OptionValue&)> set;

  std::string name() const { return section + "." + key; }
};

/// In the order of the file: sections together, keys in reading order.
const std::vector<Option>& options();

/// nullptr if there is no such option.
const Option* find_option(std::string_view section, std::string_view key);

/// Returns "; did you mean model.hidden_size?" for the best match of a misspelt key: a key of the section, a
/// key of another section or, if the section is unknown, a section. Empty if nothing is close.
std::string suggestion(std::string_view section, std::string_view key);

/// The value as TOML; reading it back gives the same value.
std::string to_toml(const OptionValue& value);

/// The option's type or choices as text: "integer, at least 1".
std::string describe_type(const Option& option);

/// All options with type, default and meaning: for a terminal, and as Markdown tables for
/// launch/docs/configuration.md.
std::string option_help();
std::string option_markdown();

}  // namespace foretoken
