#include "launch/config/config_loader.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <system_error>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "io/files/text_file.h"
#include "launch/config/config_toml.h"
#include "launch/config/options.h"
#include "launch/config/toml_text.h"
#include "runtime/error.h"
#include "runtime/plural.h"

namespace foretoken {

namespace fs = std::filesystem;

namespace {

/// Example: "train.steps: expected integer, at least 1, found a string (train.toml:2)".
UsageError unexpected(const Option& option, const std::string& found, const std::string& origin) {
  return UsageError("{}: expected {}, found {} ({})", option.name(), describe_type(option), found, origin);
}

void check_domain(const Option& option, double value, const std::string& origin) {
  if (!std::isfinite(value) || !option.domain.holds(value))
    throw UsageError("{}: {} is out of range, expected {} ({})", option.name(), value, describe_type(option),
                     origin);
}

OptionValue value_of(const Option& option, const toml::node& node, const std::string& origin) {
  const auto wrong_type = [&](const toml::node& found) {
    return unexpected(option, type_in_words(found), origin);
  };
  const auto number = [&](const toml::node& entry) {
    const auto value = entry.is_number() ? entry.value<double>() : std::nullopt;
    if (!value) throw wrong_type(entry);
    check_domain(option, *value, origin);
    return *value;
  };
  switch (option.type) {
    case Option::Type::boolean:
      if (const auto value = node.value_exact<bool>()) return *value;
      break;
    case Option::Type::integer:
      if (const auto value = node.value_exact<std::int64_t>()) {
        check_domain(option, static_cast<double>(*value), origin);
        return *value;
      }
      break;
    case Option::Type::number:
      return number(node);
    case Option::Type::text:
      if (const auto value = node.value_exact<std::string>()) return *value;
      break;
    case Option::Type::choice:
      if (const auto value = node.value_exact<std::string>()) {
        for (const std::string& choice : option.choices)
          if (choice == *value) return *value;
        throw UsageError("{}: expected one of {}, found \"{}\" ({})", option.name(),
                         fmt::join(option.choices, ", "), *value, origin);
      }
      break;
    case Option::Type::numbers:
      if (const toml::array* array = node.as_array()) {
        std::vector<double> values;
        for (const toml::node& entry : *array) values.push_back(number(entry));
        return values;
      }
      break;
    case Option::Type::pairs:
      if (const toml::array* array = node.as_array()) {
        std::vector<NumberPair> values;
        for (const toml::node& entry : *array) {
          const toml::array* pair = entry.as_array();
          if (pair == nullptr) throw wrong_type(entry);
          if (pair->size() != 2)
            throw unexpected(option, fmt::format("a list of {}", counted(pair->size(), "value")), origin);
          values.emplace_back(number((*pair)[0]), number((*pair)[1]));
        }
        return values;
      }
      break;
  }
  throw wrong_type(node);
}

/// Sets each option that has no value of its own but follows from an option that was set.
void derive_unset(Config& config) {
  const auto is_set = [&](const std::string& name) { return config.origins.contains(name); };
  for (const Option& option : options())
    if (const auto& derivation = option.derivation; derivation && !is_set(option.name()))
      if (std::any_of(derivation->inputs.begin(), derivation->inputs.end(), is_set))
        option.set(config, derivation->value(config));
}

/// The place that sets a value.
struct Source {
  std::string origin;           // ends every message: "train.toml:12"
  bool resolves_paths = false;  // relative to `folder`
  std::string folder;
};

void apply(Config& config, const Option& option, const toml::node& node, const Source& source) {
  OptionValue value = value_of(option, node, source.origin);
  if (option.path && source.resolves_paths)
    value = absolute_path(std::get<std::string>(value), source.folder);
  option.set(config, value);
  config.origins[option.name()] = source.origin;
  derive_unset(config);
}

/// The value of a --set flag as a TOML table with the single key "value".
toml::table parse_flag_value(const Option& option, const std::string& text, const std::string& flag) {
  std::string toml_text = text;
  const bool quoted = !text.empty() && (text.front() == '"' || text.front() == '\'');
  const bool takes_text = option.type == Option::Type::text || option.type == Option::Type::choice;
  // TOML would take "#" in the value as the start of a comment and drop the rest.
  if (takes_text ? quoted && text.back() != text.front() : text.find('#') != std::string::npos)
    throw unexpected(option, '"' + text + '"', flag);
  if (takes_text && !quoted) toml_text = to_toml(OptionValue(text));
  if (option.type == Option::Type::numbers && !text.starts_with('[')) toml_text = "[" + text + "]";
  if (option.type == Option::Type::pairs && text.starts_with('[') && !text.starts_with("[[") && text != "[]")
    toml_text = "[" + text + "]";
  toml::table table;
  try {
    require_toml_text(toml_text);
    table = toml::parse("value = " + toml_text);
  } catch (const TomlTextError& error) {
    throw UsageError("{}: {} ({})", option.name(), error.what, flag);
  } catch (const toml::parse_error& error) {
    throw unexpected(option, '"' + text + '"', flag);
  } catch (const BrokenTomlAssumption&) {
    throw unexpected(option, '"' + text + '"', flag);
  }
  if (table.size() != 1) throw UsageError("{}: expected one value, found several ({})", option.name(), flag);
  return table;
}

}  // namespace

std::string type_in_words(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::boolean:
      return "a boolean";
    default:
      return "a date or time";
  }
}

/// The first line that starts with [ or [[ without a key; 1 if there is none.
static std::int64_t line_without_key(std::string_view text) {
  std::int64_t number = 1;
  for (std::size_t begin = 0; begin < text.size(); ++number) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    const std::size_t key = line.find_first_not_of("[ \t\r");
    if (line.starts_with('[') &&
        (key == std::string_view::npos || std::string_view("#=,.").find(line[key]) != std::string_view::npos))
      return number;
    begin = end + 1;
  }
  return 1;
}

toml::table parse_toml(std::string_view text, const std::string& name) {
  try {
    require_toml_text(text);
    return toml::parse(text);
  } catch (const TomlTextError& error) {
    throw UsageError("not TOML: {} ({}:{})", error.what, name, error.line);
  } catch (const toml::parse_error& error) {
    throw UsageError("not TOML: {} ({}:{})", error.description(), name, error.source().begin.line);
  } catch (const BrokenTomlAssumption&) {
    throw UsageError("not TOML: a key is missing after [ or [[ ({}:{})", name, line_without_key(text));
  }
}

std::string line_of(const std::string& name, const toml::node& node) {
  return fmt::format("{}:{}", name, node.source().begin.line);
}

static void apply_key(Config& config, const std::string& section, const std::string& key,
                      const toml::node& node, const std::string& name, bool resolves_paths) {
  const std::string origin = line_of(name, node);
  const Option* option = find_option(section, key);
  if (option == nullptr)
    throw UsageError("unknown key {}.{}{} ({})", section, key, suggestion(section, key), origin);
  apply(config, *option, node,
        {.origin = origin,
         .resolves_paths = resolves_paths,
         .folder = std::filesystem::path(name).parent_path()});
}

static void apply_table(Config& config, const toml::table& file, const std::string& name, bool resolves_paths,
                        const std::set<std::string_view>& others) {
  for (const auto& [section_key, section_node] : file) {
    const std::string section(section_key.str());
    if (others.contains(section)) continue;
    const std::string section_origin = line_of(name, section_node);
    const toml::table* table = section_node.as_table();
    if (table == nullptr)
      throw UsageError("{}: expected a [section], found {}{} ({})", section, type_in_words(section_node),
                       suggestion("", section), section_origin);
    if (std::none_of(options().begin(), options().end(),
                     [&](const Option& option) { return option.section == section; }))
      throw UsageError("unknown section [{}]{} ({})", section, suggestion(section, ""), section_origin);
    for (const auto& [key, node] : *table)
      apply_key(config, section, std::string(key.str()), node, name, resolves_paths);
  }
}

void apply_key(Config& config, const std::string& section, const std::string& key, const toml::node& node,
               const std::string& name) {
  apply_key(config, section, key, node, name, true);
}

void apply_table(Config& config, const toml::table& file, const std::string& name,
                 const std::set<std::string_view>& others) {
  apply_table(config, file, name, true, others);
}

void apply_toml(Config& config, std::string_view text, const std::string& name) {
  apply_table(config, parse_toml(text, name), name, false, {});
}

std::string read_toml_file(const std::string& path) {
  try {
    return read_text_file(path, most_config_bytes);
  } catch (const DataError& error) {
    const std::string_view reason = error.what();
    throw UsageError("{}: the configuration cannot be read{}", path, reason.substr(path.size()));
  }
}

void apply_toml_file(Config& config, const std::string& path) {
  apply_table(config, parse_toml(read_toml_file(path), path), path, true, {});
}

void apply_sets(Config& config, const std::vector<std::string>& sets) {
  for (const std::string& set : sets) {
    const std::string flag = "--set " + set;
    const std::size_t equals = set.find('=');
    const std::size_t dot = set.find('.');
    if (equals == std::string::npos || dot > equals)
      throw UsageError("expected section.key=value ({})", flag);
    const std::string section = set.substr(0, dot);
    const std::string key = set.substr(dot + 1, equals - dot - 1);
    const Option* option = find_option(section, key);
    if (option == nullptr)
      throw UsageError("unknown key {}.{}{} ({})", section, key, suggestion(section, key), flag);
    const toml::table table = parse_flag_value(*option, set.substr(equals + 1), flag);
    apply(config, *option, *table.get("value"), {.origin = flag, .resolves_paths = true, .folder = {}});
  }
}

std::string to_toml(const Config& config) {
  std::string text;
  std::string section;
  for (const Option& option : options()) {
    if (option.section != section) {
      text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", option.section);
      section = option.section;
    }
    text += fmt::format("{} = {}\n", option.key, to_toml(option.get(config)));
  }
  return text;
}

std::string absolute_path(const std::string& path, const std::string& folder) {
  if (path.empty()) return path;
  fs::path resolved = path;
  const char* home = std::getenv("HOME");
  if (home != nullptr && (path == "~" || path.starts_with("~/"))) resolved = home + path.substr(1);
  resolved = fs::absolute(folder / resolved);
  // ".." after a symbolic link means the parent of the link's target, so the link is resolved. Without ".."
  // links keep the name that the user gave.
  const bool goes_up = std::find(resolved.begin(), resolved.end(), "..") != resolved.end();
  std::error_code error;
  if (goes_up)
    if (const fs::path followed = fs::weakly_canonical(resolved, error); !error) return followed;
  return resolved.lexically_normal();
}

std::string origin_of(const Config& config, std::initializer_list<std::string_view> names) {
  std::vector<std::string> origins;
  for (const std::string_view name : names) {
    const auto found = config.origins.find(std::string(name));
    if (found != config.origins.end() &&
        std::find(origins.begin(), origins.end(), found->second) == origins.end())
      origins.push_back(found->second);
  }
  return origins.empty() ? "" : fmt::format(" ({})", fmt::join(origins, ", "));
}

}  // namespace foretoken
