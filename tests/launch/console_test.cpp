// The console's mirror in log.txt.
#include "launch/console.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;

namespace {

std::string read(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

}  // namespace

TEST_CASE("the log mirrors lines and warnings, and a resumed run appends") {
  const TemporaryFolder folder;
  const std::string path = (folder / "log.txt").string();
  {
    Console console(true);
    console.line("before the log");
    console.open_log(path);
    console.line("step 1");
    console.warn("metrics: full");
    CHECK(read(path) == "step 1\nwarning: metrics: full\n");  // each line at once
  }
  Console console(true);
  console.open_log(path);
  console.line("step 2");
  CHECK(read(path) == "step 1\nwarning: metrics: full\nstep 2\n");
}

TEST_CASE("the console of another rank is silent and makes no log") {
  const TemporaryFolder folder;
  Console console(false);
  console.open_log((folder / "log.txt").string());
  console.line("nobody reads this");
  CHECK_FALSE(std::filesystem::exists(folder / "log.txt"));
}

TEST_CASE("a log that cannot be opened is an error, one that is full is not") {
  Console console(true);
  CHECK_THROWS_AS(console.open_log("/nowhere/log.txt"), DataError);
  Console full(true);
  full.open_log("/dev/full");
  CHECK_NOTHROW(full.line("the disk is full"));
}
