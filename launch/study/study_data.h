#pragma once
// The data of a study's points. The identity of a point's data is stored in the point's folder
// (POINT/data.json), so that a report does not compare runs on different data.

#include <map>
#include <optional>
#include <string>

#include "io/datasets/token_dataset.h"
#include "launch/config/config.h"

namespace foretoken {

class StudyData {
 public:
  /// Writes the records of a point's datasets to `file`. A dataset that cannot be opened has no record; the
  /// point's run reports the reason. Writes no file if there is no record.
  void keep(const std::string& file, const Config& config);
  /// Throws a UsageError naming both paths and identities if `file` records other data than `config` names.
  /// Compares nothing if the file or a dataset is missing. Throws a DataError if the file is damaged.
  void require_same(const std::string& file, const std::string& point, const Config& config);

 private:
  std::optional<DatasetRecord> record_of(const std::string& path);

  std::map<std::string, std::optional<DatasetRecord>> records_;  // by path: points share datasets
};

}  // namespace foretoken
