#include "launch/profile/machine_links.h"

#include <nlohmann/json.hpp>

#include "io/files/bounded_json.h"
#include "io/files/printable.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

constexpr double most_latency = 60;      // s
constexpr double most_bandwidth = 1e15;  // bytes/s

std::optional<Link> link_of(const nlohmann::json& links, const char* kind, const std::string& name) {
  if (!links.contains(kind)) return std::nullopt;
  const auto number = [&](const char* key, double most) {
    const nlohmann::json& value = links.at(kind).at(key);
    const double found = value.is_number() ? value.get<double>() : -1;
    if (!(found > 0 && found <= most))
      throw DataError("{}: links.{}.{}: expected a number greater than 0, at most {}, found {}", name, kind,
                      key, most, brief(value));
    return found;
  };
  return Link{.latency = number("latency", most_latency), .bandwidth = number("bandwidth", most_bandwidth)};
}

}  // namespace

MachineLinks machine_links_from(std::string_view text, const std::string& name) {
  try {
    const auto json = parse_json_bounded(text);
    if (!json.is_object() || !json.contains("links") || !json.at("links").is_object())
      throw DataError(
          "{}: neither a device profile (foretoken plan --measure) nor a machine's links (foretoken "
          "doctor --save)",
          name);
    const nlohmann::json& links = json.at("links");
    return {link_of(links, "inside", name), link_of(links, "between", name)};
  } catch (const nlohmann::json::exception& error) {
    throw DataError("{}: {}", name, printable(error.what()));
  }
}

}  // namespace foretoken
