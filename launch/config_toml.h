#pragma once
// Configuration as parsed TOML: what files have in common. Only the .cpp files that read TOML include it.

#include <set>
#include <string>
#include <string_view>

#include <toml++/toml.h>

#include "launch/config.h"

namespace foretoken {

/// A UsageError "NAME:LINE: what is wrong" for what is not TOML.
toml::table parse_toml(std::string_view text, const std::string& name);

/// The text of a file. A UsageError where it cannot be read.
std::string read_toml_file(const std::string& path);

/// Applies [section] key = value over the config, the tables named `others` left out; `name` is what messages
/// call the file.
void apply_table(Config& config, const toml::table& table, const std::string& name,
                 const std::set<std::string_view>& others = {});
/// One of its keys.
void apply_key(Config& config, const std::string& section, const std::string& key, const toml::node& node,
               const std::string& name);

/// "train.toml:12"
std::string line_of(const std::string& name, const toml::node& node);

/// "a table", "an integer"
std::string type_in_words(const toml::node& node);

}  // namespace foretoken
