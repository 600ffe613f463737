#pragma once
// The data of a study's points: what a point was trained on is kept beside it (POINT/data.json), so that rows
// of one report do not tell of different data.

#include <map>
#include <optional>
#include <string>

#include "io/token_dataset.h"
#include "launch/config.h"

namespace foretoken {

class StudyData {
 public:
  /// Writes the records of a point's data to `file`. Nothing where a dataset cannot be opened: the run says
  /// why.
  void keep(const std::string& file, const Config& config);
  /// A UsageError naming both paths and identities where `file` keeps other data than `config` names. Nothing
  /// is compared where the file or a dataset is missing.
  void require_same(const std::string& file, const std::string& point, const Config& config);

 private:
  std::optional<DatasetRecord> record_of(const std::string& path);

  std::map<std::string, std::optional<DatasetRecord>> records_;  // by path: points share datasets
};

}  // namespace foretoken
