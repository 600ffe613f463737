#pragma once
// Gives a manifest a digest that matches it, so that the checks after the digest's check are fuzzed too.

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "io/files/bounded_json.h"
#include "io/files/digest.h"

namespace foretoken::fuzz {

/// The text with a "digest" that matches its "checkpoint"; unchanged if it has no "checkpoint".
inline std::string signed_manifest(std::string_view text) {
  try {
    nlohmann::json json = parse_json_bounded(text);
    json["digest"] = digest_of(json.at("checkpoint").dump());
    return json.dump();
  } catch (const std::exception&) {
    return std::string(text);
  }
}

}  // namespace foretoken::fuzz
