#pragma once
// Fills a Config: from TOML files and from --set, later ones win. Every mistake is a UsageError that begins
// with where it stands: "train.toml:12: [model] hidden_sizes: unknown key; did you mean hidden_size?".

#include <string>
#include <string_view>
#include <vector>

#include "launch/config.h"

namespace foretoken {

/// Applies the settings of a TOML text over the config; `name` is what messages call it.
void apply_toml(Config& config, std::string_view text, const std::string& name);

/// Applies a TOML file.
void apply_toml_file(Config& config, const std::string& path);

/// Applies flags "section.key=value": the value as TOML has it, where strings need no quotes and lists no
/// brackets. Setting a key twice is an error.
void apply_sets(Config& config, const std::vector<std::string>& sets);

/// Every setting, as TOML that loads back to the same.
std::string to_toml(const Config& config);

/// The start of a message about these options: the places where they were set, "train.toml:12, --set
/// parallel.pp=2: ", or nothing where all are defaults.
std::string origin_of(const Config& config, std::initializer_list<std::string_view> names);

}  // namespace foretoken
