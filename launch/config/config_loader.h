#pragma once
// Fills a Config from TOML files and from --set; later ones win. Every mistake is a UsageError that starts
// with its place: "train.toml:12: [model] hidden_sizes: unknown key; did you mean hidden_size?".

#include <string>
#include <string_view>
#include <vector>

#include "launch/config/config.h"

namespace foretoken {

/// Applies the settings of a TOML text to the config; messages call the text `name`.
void apply_toml(Config& config, std::string_view text, const std::string& name);

/// Applies the settings of a TOML file.
void apply_toml_file(Config& config, const std::string& path);

/// Applies flags "section.key=value". Values are TOML, except that strings need no quotes and lists no
/// brackets. Setting a key twice is an error.
void apply_sets(Config& config, const std::vector<std::string>& sets);

/// All settings as TOML that loads back to the same config.
std::string to_toml(const Config& config);

/// Prefix of a message about these options: where they were set, such as "train.toml:12, --set parallel.pp=2:
/// "; empty if all have their defaults.
std::string origin_of(const Config& config, std::initializer_list<std::string_view> names);

}  // namespace foretoken
