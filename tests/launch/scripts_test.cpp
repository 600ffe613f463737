// The scripts in launch/ that people run.
#include <array>
#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>

#include "tests/support/catch.h"
#include "tests/support/source_tree.h"

namespace fs = std::filesystem;
using foretoken::testing::contains;

namespace {

/// Exit code, and stdout with stderr.
std::pair<int, std::string> run(const std::string& command) {
  std::FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string output;
  std::array<char, 4096> block{};
  for (std::size_t count; (count = std::fread(block.data(), 1, block.size(), pipe)) > 0;)
    output.append(block.data(), count);
  return {WEXITSTATUS(pclose(pipe)), output};
}

}  // namespace

TEST_CASE("every script's --help prints purpose and usage and does nothing else") {
  int scripts = 0;
  for (const auto& entry : fs::recursive_directory_iterator(foretoken::testing::in_source_tree("launch"))) {
    const bool is_executable = (entry.status().permissions() & fs::perms::owner_exec) != fs::perms::none;
    if (entry.path().extension() != ".sh" || !is_executable) continue;
    const std::string name = entry.path().filename().string();
    CAPTURE(name);
    const auto [code, output] = run("'" + entry.path().string() + "' --help");
    CHECK(code == 0);
    CHECK_THAT(output, contains(".\n") && contains("  " + name) || contains("  launch/" + name));
    CHECK_THAT(output, !contains("#") && !contains("set -euo"));
    ++scripts;
  }
  CHECK(scripts >= 6);
}

TEST_CASE("the quickstart refuses a missing text before it builds anything") {
  const auto [code, output] =
      run("'" + foretoken::testing::in_source_tree("launch/quickstart.sh") + "' --verbose");
  CHECK(code == 2);
  CHECK(output ==
        "quickstart: --verbose: there is no such file or folder; see launch/quickstart.sh --help\n");
}
