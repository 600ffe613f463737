#include "launch/profile/device_profile.h"

#include <array>
#include <cmath>
#include <set>

#include <nlohmann/json.hpp>

#include "io/files/bounded_json.h"
#include "io/files/digest.h"
#include "io/files/printable.h"
#include "io/files/text_file.h"
#include "launch/config/choice_names.h"
#include "launch/config/options.h"
#include "model/config_names.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view format = "foretoken device profile";
constexpr int version = 1;
constexpr double most_seconds = 1e6;

constexpr std::array settings = {"model.hidden_size",
                                 "model.num_attention_heads",
                                 "model.num_key_value_heads",
                                 "model.head_dim",
                                 "model.intermediate_size",
                                 "model.vocab_size",
                                 "model.tie_word_embeddings",
                                 "mtp.kind",
                                 "mtp.depths",
                                 "mtp.repeat",
                                 "mtp.trunk_hidden",
                                 "mtp.recycled_hidden",
                                 "mtp.residual_form",
                                 "mtp.own_output",
                                 "mtp.detach_heads",
                                 "data.sequence_length",
                                 "data.attention",
                                 "train.freeze",
                                 "train.deterministic",
                                 "fp8.recipe",
                                 "optimizer.moments"};

std::string digest_without(Json json) {
  json.erase("digest");
  return digest_of(json.dump());
}

/// Reads the members of one JSON object. Errors name the file and the member.
class Reader {
 public:
  Reader(const Json& object, std::string name) : object_(object), name_(std::move(name)) {
    if (!object.is_object()) throw DataError("{}: expected an object, found {}", name_, brief_of(object));
  }

  std::string text(const char* key) const {
    const Json& value = at(key);
    if (!value.is_string()) throw wrong(key, "a text", value);
    return printable(value.get<std::string>());
  }
  /// A finite number, 0 to most.
  double number(const char* key, double most = most_seconds) const {
    const Json& value = at(key);
    const double number = value.is_number() ? value.get<double>() : -1;
    if (!(number >= 0 && number <= most)) throw wrong(key, fmt::format("a number, 0 to {}", most), value);
    return number;
  }
  std::int64_t integer(const char* key, std::int64_t least, std::int64_t most) const {
    const Json& value = at(key);
    if (!value.is_number_integer() || value < least || value > most)
      throw wrong(key, fmt::format("an integer, {} to {}", least, most), value);
    return value.get<std::int64_t>();
  }
  const Json& at(const char* key) const {
    const auto found = object_.find(key);
    if (found == object_.end()) throw DataError("{}: \"{}\" is missing", name_, key);
    return *found;
  }
  DataError wrong(const char* key, const std::string& expected, const Json& value) const {
    return DataError("{}: \"{}\": expected {}, found {}", name_, key, expected, brief_of(value));
  }

 private:
  static std::string brief_of(const Json& value) { return brief(nlohmann::json(value)); }

  const Json& object_;
  std::string name_;
};

Json to_json(const DeviceProfile::Part& part) {
  return {{"part", part.name},
          {"recompute", name_of(part.recompute)},
          {"microbatch", part.microbatch},
          {"forward_seconds", part.seconds.forward},
          {"backward_input_seconds", part.seconds.backward_input},
          {"backward_weight_seconds", part.seconds.backward_weight},
          {"spread", part.spread},
          {"repetitions", part.repetitions}};
}

DeviceProfile::Part part_from(const Json& json, const std::string& name) {
  const Reader reader(json, name);
  const std::string recompute = reader.text("recompute");
  const auto mode = enum_named<Recompute>(recompute);
  if (!mode) throw reader.wrong("recompute", "none, selective or full", recompute);
  return {.name = reader.text("part"),
          .recompute = *mode,
          .microbatch = reader.integer("microbatch", 1, 16777216),
          .seconds = {reader.number("forward_seconds"), reader.number("backward_input_seconds"),
                      reader.number("backward_weight_seconds")},
          .spread = reader.number("spread", 1e12),
          .repetitions = reader.integer("repetitions", 1, std::int64_t{1} << 40)};
}

std::vector<DeviceProfile::Part> parts_from(const Json& json, const std::string& name) {
  if (!json.is_array() || json.empty()) throw DataError("{}: \"parts\": expected a list with parts", name);
  std::vector<DeviceProfile::Part> parts;
  std::set<std::tuple<std::string, Recompute, std::int64_t>> seen;
  for (const Json& one : json) {
    parts.push_back(part_from(one, fmt::format("{}: part {}", name, parts.size())));
    const DeviceProfile::Part& part = parts.back();
    if (!seen.emplace(part.name, part.recompute, part.microbatch).second)
      throw DataError("{}: \"{}\" with recompute {} and microbatch {} is listed twice", name, part.name,
                      name_of(part.recompute), part.microbatch);
  }
  return parts;
}

/// The precision that "auto" selects.
TrainConfig::Precision precision_on(const Config& config, DeviceKind kind) {
  using enum TrainConfig::Precision;
  if (config.train.precision != automatic) return config.train.precision;
  return kind == DeviceKind::cuda ? bf16 : f32;
}

}  // namespace

std::map<std::string, std::string> measured_settings(const Config& config, DeviceKind kind) {
  std::map<std::string, std::string> found;
  for (const std::string_view name : settings) {
    const std::size_t dot = name.find('.');
    const Option* option = find_option(name.substr(0, dot), name.substr(dot + 1));
    if (option == nullptr) throw DefectError("profile: there is no setting {}", name);
    found.emplace(name, to_toml(option->get(config)));
  }
  const TrainConfig::Precision precision = precision_on(config, kind);
  found.emplace("train.precision", fmt::format("\"{}\"", name_of(precision)));
  if (precision != TrainConfig::Precision::fp8) found.erase("fp8.recipe");
  return found;
}

std::string to_json_text(const DeviceProfile& profile) {
  Json json{{"format", format},         {"version", version},
            {"device", profile.device}, {"compute_capability", profile.compute_capability},
            {"driver", profile.driver}, {"commit", profile.commit},
            {"date", profile.date},     {"threads_per_rank", profile.threads},
            {"ranks", profile.ranks},   {"settings", profile.settings}};
  json["parts"] = Json::array();
  for (const DeviceProfile::Part& part : profile.parts) json["parts"].push_back(to_json(part));
  json["adamw_seconds_per_parameter"] = profile.update;
  json["gradient_norm_seconds_per_parameter"] = profile.gradient_norm;
  json["start_seconds_per_parameter"] = profile.start;
  json["host_seconds_per_step"] = profile.host;
  json["process_bytes"] = profile.process_bytes;
  json["digest"] = digest_without(json);
  return json.dump(1) + "\n";
}

DeviceProfile profile_from(std::string_view text, const std::string& name) {
  try {
    const Json json = parse_json_bounded<Json>(text);
    const Reader reader(json, name);
    if (!json.contains("format") || json["format"] != format)
      throw DataError("{}: not a device profile; `foretoken plan CONFIG.toml --measure -o {}` writes one",
                      name, name);
    if (const std::int64_t found = reader.integer("version", 0, 1 << 30); found != version)
      throw DataError("{}: a device profile of version {}, expected {}", name, found, version);
    if (json.contains("digest") && reader.text("digest") != digest_without(json))
      throw DataError(
          "{}: the digest differs from the content: the file is damaged or was edited; remove the "
          "\"digest\" to use an edited profile",
          name);
    DeviceProfile profile{
        .device = reader.text("device"),
        .compute_capability = reader.text("compute_capability"),
        .driver = reader.text("driver"),
        .commit = reader.text("commit"),
        .date = reader.text("date"),
        .threads = static_cast<int>(reader.integer("threads_per_rank", 1, 1 << 16)),
        .ranks = static_cast<int>(reader.integer("ranks", 1, 1 << 20)),
        .settings = {},
        .parts = parts_from(reader.at("parts"), name),
        .update = reader.number("adamw_seconds_per_parameter"),
        .gradient_norm = reader.number("gradient_norm_seconds_per_parameter"),
        .start = reader.number("start_seconds_per_parameter"),
        .host = reader.number("host_seconds_per_step"),
        .process_bytes = static_cast<std::size_t>(reader.integer("process_bytes", 0, std::int64_t{1} << 50))};
    const Json& measured = reader.at("settings");
    if (!measured.is_object()) throw reader.wrong("settings", "an object", measured);
    for (const auto& [key, value] : measured.items()) {
      if (!value.is_string()) throw reader.wrong("settings", "texts", value);
      profile.settings.emplace(printable(key), printable(value.get<std::string>()));
    }
    return profile;
  } catch (const nlohmann::json::exception& error) {
    throw DataError("{}: {}", name, printable(error.what()));
  }
}

bool is_profile(std::string_view json) {
  return json.substr(0, 200).find(format) != std::string_view::npos;
}

DeviceProfile read_profile(const std::string& path) {
  return profile_from(read_text_file(path, most_profile_bytes), path);
}

}  // namespace foretoken
