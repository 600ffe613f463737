#include "launch/config/number_flag.h"

#include <charconv>
#include <cmath>
#include <type_traits>

#include <fmt/format.h>

namespace foretoken {

namespace {

/// Whether the digits before a fraction have the form that TOML requires.
bool has_plain_digits(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  const auto is_digit = [&](std::size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '9'; };
  return is_digit(0) && !(text[0] == '0' && is_digit(1));
}

template <class Number>
std::optional<Number> read(std::string_view text) {
  if (!has_plain_digits(text)) return std::nullopt;
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// Example: "integer, 1 to 64".
template <class Number>
std::string describe(const NumberRange& range) {
  constexpr bool is_integer = !std::is_floating_point_v<Number>;
  const char* type = is_integer ? "integer" : "number";
  if (!std::isinf(range.most) && !range.above)
    return fmt::format("{}, {} to {}", type, range.least, range.most);
  const std::string most = !std::isinf(range.most) ? fmt::format(" and at most {}", range.most)
                           : is_integer ? fmt::format(" and below 2^{}", std::numeric_limits<Number>::digits)
                                        : "";
  return fmt::format("{}, {} {}{}", type, range.above ? "above" : "at least", range.least, most);
}

template <class Number>
std::optional<Number> read_as(std::string_view text) {
  if constexpr (std::is_floating_point_v<Number>) return read_number(text);
  return read<Number>(text);
}

}  // namespace

std::optional<std::int64_t> read_integer(std::string_view text) {
  return read<std::int64_t>(text);
}

std::optional<double> read_number(std::string_view text) {
  const std::optional<double> number = read<double>(text);
  return number && std::isfinite(*number) ? number : std::nullopt;
}

template <class Number>
CLI::Option* add_number(CLI::App& command, const std::string& name, Number& into, const NumberRange& range,
                        const std::string& help, bool shows_default) {
  const auto take = [&into, range, flag = name.substr(name.find_last_of(',') + 1)](const std::string& text) {
    const std::optional<Number> number = read_as<Number>(text);
    if (!number || !range.holds(static_cast<double>(*number)))
      throw CLI::ValidationError(flag,
                                 fmt::format("expected {}, found \"{}\"", describe<Number>(range), text));
    into = *number;
  };
  CLI::Option* option = command.add_option_function<std::string>(name, take, help);
  option->type_name(std::is_floating_point_v<Number> ? "NUMBER" : "INTEGER");
  if (shows_default) option->default_str(fmt::format("{}", into));
  return option;
}

template CLI::Option* add_number(CLI::App&, const std::string&, int&, const NumberRange&, const std::string&,
                                 bool);
template CLI::Option* add_number(CLI::App&, const std::string&, std::int64_t&, const NumberRange&,
                                 const std::string&, bool);
template CLI::Option* add_number(CLI::App&, const std::string&, std::uint64_t&, const NumberRange&,
                                 const std::string&, bool);
template CLI::Option* add_number(CLI::App&, const std::string&, double&, const NumberRange&,
                                 const std::string&, bool);

}  // namespace foretoken
