// The table of options as text: TOML values, help, Markdown, suggestions.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "launch/config/options.h"
#include "launch/config/spelling.h"
#include "launch/console/columns.h"

namespace foretoken {
namespace {

std::string quote(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      quoted += {'\\', c};
    else if (byte < 0x20 || byte == 0x7f)
      quoted += fmt::format("\\u{:04x}", byte);
    else
      quoted += c;
  }
  return quoted + '"';
}

std::string to_text(bool value) {
  return value ? "true" : "false";
}
std::string to_text(std::int64_t value) {
  return fmt::format("{}", value);
}
/// The shortest text that reads back as the same double and that TOML recognizes as a float.
std::string to_text(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}
std::string to_text(const std::string& value) {
  return quote(value);
}
std::string to_text(const NumberPair& value);
template <class Entry>
std::string to_text(const std::vector<Entry>& values) {
  std::string text;
  for (const Entry& value : values) text += (text.empty() ? "" : ", ") + to_text(value);
  return "[" + text + "]";
}
std::string to_text(const NumberPair& value) {
  return to_text(std::vector{value.first, value.second});
}

}  // namespace

std::string suggestion(std::string_view section, std::string_view key) {
  std::string meant;
  std::size_t best = std::string_view::npos;
  bool known_section = false;
  for (const Option& option : options()) {
    if (option.section != section) continue;
    known_section = true;
    if (is_closer_spelling(key, option.key, best)) meant = option.name();
  }
  if (meant.empty())
    for (const Option& option : options())
      if (option.key == key) meant = option.name();
  if (meant.empty() && !known_section)
    for (const Option& option : options())
      if (is_closer_spelling(section, option.section, best)) meant = "[" + option.section + "]";
  return meant.empty() ? "" : fmt::format("; did you mean {}?", meant);
}

std::string to_toml(const OptionValue& value) {
  return std::visit([](const auto& held) { return to_text(held); }, value);
}

std::string describe_type(const Option& option) {
  const auto with_domain = [&](const char* type) {
    return option.domain.text.empty() ? std::string(type) : fmt::format("{}, {}", type, option.domain.text);
  };
  switch (option.type) {
    case Option::Type::boolean:
      return "boolean";
    case Option::Type::integer:
      return with_domain("integer");
    case Option::Type::number:
      return with_domain("number");
    case Option::Type::text:
      return "text";
    case Option::Type::choice:
      return fmt::format("{}", fmt::join(option.choices, ", "));
    case Option::Type::numbers:
      return with_domain("list of numbers");
    case Option::Type::pairs:
      return with_domain("list of pairs [a, b] of numbers");
  }
  return "";
}

std::string option_help() {
  constexpr std::size_t help_column = 40;
  const Config defaults;
  std::string text;
  std::string section;
  for (const Option& option : options()) {
    if (option.section != section) text += fmt::format("\n[{}]\n", section = option.section);
    text += in_columns(fmt::format("  {} = {} ", option.key, to_toml(option.get(defaults))),
                       fmt::format("{} ({})", option.help, describe_type(option)), help_column);
  }
  return text;
}

std::string option_markdown() {
  const Config defaults;
  std::string text;
  std::string section;
  for (const Option& option : options()) {
    if (option.section != section) {
      text += fmt::format("{}| `[{}]` | default | values | meaning |\n|---|---|---|---|\n",
                          text.empty() ? "" : "\n", option.section);
      section = option.section;
    }
    text += fmt::format("| `{}` | `{}` | {} | {} |\n", option.key, to_toml(option.get(defaults)),
                        describe_type(option), option.help);
  }
  return text;
}

}  // namespace foretoken
