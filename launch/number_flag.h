#pragma once
// Numbers on the command line. Decimal digits and nothing else: no leading zero (which other programs read as
// octal), no sign but the minus of a negative number, nothing after the last digit, no overflow. The
// configuration file and --set read numbers by TOML's rules, which are as strict.

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>

namespace foretoken {

std::optional<std::int64_t> read_integer(std::string_view text);
/// A finite decimal number: 0.5, 1, 1e-3.
std::optional<double> read_number(std::string_view text);

/// What a flag accepts, both ends included; `above` excludes the lower one.
struct NumberRange {
  double least = 0;
  double most = std::numeric_limits<double>::infinity();
  bool above = false;
  bool holds(double value) const { return (above ? value > least : value >= least) && value <= most; }
};

/// A flag of an integer or a number in the range. Errors name the flag, the value and the range. The value at
/// the time of the call is shown as the default where `shows_default` is set.
template <class Number>
CLI::Option* add_number(CLI::App& command, const std::string& name, Number& into, const NumberRange& range,
                        const std::string& help, bool shows_default = false);

}  // namespace foretoken
