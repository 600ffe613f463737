// A run folder is complete or absent, and is never shared by two runs.
#include "io/checkpoint/run_directory.h"

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "io/files/sealed_text.h"
#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;
namespace fs = std::filesystem;

namespace {

std::string read(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::size_t entries(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

}  // namespace

TEST_CASE("a new run holds its configuration and a place for checkpoints") {
  const TemporaryFolder folder;
  const RunDirectory run = RunDirectory::create((folder / "a/runs").string(), "first", "[train]\n");
  CHECK(read(run.config_path()) == sealed("[train]\n"));
  CHECK(fs::is_directory(run.checkpoints_path()));
  const std::string name = fs::path(run.path()).filename();
  CHECK(name.rfind("first-20", 0) == 0);
  CHECK(name.back() == 'Z');
  CHECK(entries(folder / "a/runs") == 1);  // no temporary file is left
}

TEST_CASE("runs that start with one name in the same second get different folders") {
  const TemporaryFolder folder;
  std::set<std::string> paths;
  for (int i = 0; i < 5; ++i) {
    const std::string text = "# " + std::to_string(i) + "\n";
    const RunDirectory run = RunDirectory::create(folder.path().string(), "same", text);
    paths.insert(run.path());
    CHECK(read(run.config_path()) == sealed(text));
  }
  CHECK(paths.size() == 5);
  CHECK(entries(folder.path()) == 5);
}

TEST_CASE("a run at a given path never replaces an existing file or folder") {
  const TemporaryFolder folder;
  const std::string path = (folder / "exact").string();
  CHECK(RunDirectory::create_at(path + "/", "# one\n").path() == path);
  expect_error<UsageError>(path + " exists already", [&] { RunDirectory::create_at(path, "# two\n"); });
  CHECK(read(path + "/config.toml") == sealed("# one\n"));
  folder.write("file", "mine");
  expect_error<UsageError>("exists already",
                           [&] { RunDirectory::create_at((folder / "file").string(), ""); });
  CHECK(read((folder / "file").string()) == "mine");
  CHECK(entries(folder.path()) == 2);
}

TEST_CASE("a run cannot be created inside a file") {
  const TemporaryFolder folder;
  folder.write("file", "mine");
  expect_error<DataError>("file/runs: cannot be created",
                          [&] { RunDirectory::create((folder / "file/runs").string(), "x", ""); });
}

TEST_CASE("a run is found by its folder and by its checkpoints") {
  const TemporaryFolder folder;
  const RunDirectory run = RunDirectory::create_at((folder / "run").string(), "");
  fs::create_directory(run.checkpoints_path() + "/step_00000010");
  CHECK(RunDirectory::open(run.path()).path() == run.path());
  CHECK(RunDirectory::open(run.path() + "//").path() == run.path());
  CHECK(RunDirectory::open(run.checkpoints_path() + "/step_00000010").path() == run.path());
  CHECK(RunDirectory::open(run.checkpoints_path() + "/step_00000010/").path() == run.path());
}

TEST_CASE("a folder that is not a run is refused") {
  const TemporaryFolder folder;
  expect_error<DataError>("there is no such path", [&] { RunDirectory::open((folder / "none").string()); });
  expect_error<DataError>("neither a run", [&] { RunDirectory::open(folder.path().string()); });
  folder.write("file", "");
  expect_error<DataError>("neither a run", [&] { RunDirectory::open((folder / "file").string()); });
  expect_error<DataError>("there is no such path", [&] { RunDirectory::open(""); });
}

TEST_CASE("a run's configuration is replaced as a whole") {
  const TemporaryFolder folder;
  const RunDirectory run = RunDirectory::create_at((folder / "run").string(), "# old and long\n");
  run.write_config("# new\n");
  CHECK(read(run.config_path()) == sealed("# new\n"));
  CHECK(entries(run.path()) == 2);
}
