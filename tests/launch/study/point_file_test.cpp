// The small files of a study's points.
#include "launch/study/point_file.h"

#include <filesystem>
#include <fstream>
#include <iterator>

#include "launch/study/study_data.h"
#include "launch/study/study_report.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

namespace foretoken {
namespace {

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST_CASE("every flipped bit of a point's file is an error that names the file") {
  const TemporaryFolder folder;
  const std::string path = (folder / "outcome.json").string();
  write_outcome(folder.path().string(), {.exit_code = 75, .seconds = 7.25});
  const std::string written = text_of(path);
  for (std::size_t at = 0; at + 1 < written.size(); ++at)  // the newline is not part of the object
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = written;
      flipped[at] = static_cast<char>(flipped[at] ^ (1 << bit));
      folder.write("outcome.json", flipped);
      INFO(flipped);
      CHECK_THROWS_AS(outcome_of(folder.path().string()), DataError);
    }
  folder.write("outcome.json", written);
  CHECK(outcome_of(folder.path().string()).exit_code == 75);
  CHECK(outcome_of(folder.path().string()).seconds == 7.25);
}

TEST_CASE("a point's file of an earlier version, without a digest, is read") {
  const TemporaryFolder folder;
  folder.write("outcome.json", "{\n \"exit_code\": 0,\n \"seconds\": 2.5\n}\n");
  CHECK(outcome_of(folder.path().string()).exit_code == 0);
}

TEST_CASE("a damaged record of a point's data is an error, and data that cannot be opened has no record") {
  const TemporaryFolder folder;
  const std::string path = (folder / "data.json").string();
  Config config;
  config.data.path = (folder / "missing.h5").string();
  StudyData().keep(path, config);
  CHECK_FALSE(std::filesystem::exists(path));
  write_point_file(path, {{"training", {{"path", "a.h5"}, {"identity", "0123"}}}});
  StudyData().require_same(path, "point", config);
  std::string text = text_of(path);
  text[text.find("0123")] = '1';
  folder.write("data.json", text);
  expect_error<DataError>(path + ": digest differs",
                          [&] { StudyData().require_same(path, "point", config); });
}

}  // namespace
}  // namespace foretoken
