#include "launch/study/study_data.h"

#include <filesystem>

#include "launch/study/point_file.h"
#include "runtime/error.h"

namespace foretoken {

namespace {

using Json = nlohmann::json;

struct DataKind {
  const char* name;  // in the file and in messages
  std::string DataConfig::*path;
};
constexpr DataKind kinds[] = {{"training", &DataConfig::path}, {"validation", &DataConfig::validation_path}};

}  // namespace

std::optional<DatasetRecord> StudyData::record_of(const std::string& path) {
  const auto [place, is_new] = records_.try_emplace(path);
  if (is_new && !path.empty()) try {
      place->second = TokenDataset(path).record();
    } catch (const DataError&) {
    }
  return place->second;
}

void StudyData::keep(const std::string& file, const Config& config) {
  Json json = Json::object();
  for (const auto& [kind, member] : kinds)
    if (const auto record = record_of(config.data.*member))
      json[kind] = {{"path", record->path}, {"identity", record->identity}};
  if (!json.empty()) write_point_file(file, json);
}

void StudyData::require_same(const std::string& file, const std::string& point, const Config& config) {
  if (!std::filesystem::exists(file)) return;
  try {
    const Json json = read_point_file(file);
    for (const auto& [kind, member] : kinds) {
      const auto now = record_of(config.data.*member);
      if (!now || !json.contains(kind)) continue;
      const std::string path = json.at(kind).at("path"), identity = json.at(kind).at("identity");
      if (identity != now->identity)
        throw UsageError(
            "study: point \"{}\" was trained on the {} data {} (identity {}), found {} "
            "(identity {}): rename the point, or remove {}",
            point, kind, path, identity, now->path, now->identity,
            std::filesystem::path(file).parent_path().string());
    }
  } catch (const Json::exception& error) {
    throw DataError("study: {}: {}", file, error.what());
  }
}

}  // namespace foretoken
