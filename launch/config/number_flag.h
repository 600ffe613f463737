#pragma once
// Numbers on the command line: decimal digits only. No leading zero (other programs read it as octal), no
// sign except the minus of a negative number, no character after the last digit, no overflow. The
// configuration file and --set follow TOML's rules for numbers, which are equally strict.

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>

namespace foretoken {

std::optional<std::int64_t> read_integer(std::string_view text);
/// Reads a finite decimal number: 0.5, 1, 1e-3.
std::optional<double> read_number(std::string_view text);

/// The range that a flag accepts, both ends included; `above` excludes the lower end.
struct NumberRange {
  double least = 0;
  double most = std::numeric_limits<double>::infinity();
  bool above = false;
  bool holds(double value) const { return (above ? value > least : value >= least) && value <= most; }
};

/// Adds a flag with an integer or a number in the range. Errors name the flag, the value and the range. If
/// `shows_default` is set, the help shows the value at the time of the call as the default.
template <class Number>
CLI::Option* add_number(CLI::App& command, const std::string& name, Number& into, const NumberRange& range,
                        const std::string& help, bool shows_default = false);

}  // namespace foretoken
