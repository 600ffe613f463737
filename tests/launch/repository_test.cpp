// Rules between rooms: which folder may include which, and the files at the top level.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "launch/config/options.h"
#include "tests/support/catch.h"
#include "tests/support/source_tree.h"

namespace fs = std::filesystem;

namespace {

const fs::path root = foretoken::testing::in_source_tree("");

// A room, or a single header of a room.
const std::map<std::string, std::set<std::string>> allowed = {
    {"runtime", {"runtime"}},
    {"parallel", {"parallel", "runtime"}},
    {"model", {"model", "parallel", "runtime"}},
    {"io", {"io", "runtime", "parallel/grid.h", "parallel/optimizer/shard.h"}},
    {"launch", {"launch", "io", "model", "parallel", "runtime"}},
    {"tests", {"tests", "launch", "io", "model", "parallel", "runtime"}},
};

/// What is wrong with one line of a room's file; empty if nothing is.
std::string complaint(const std::string& room, const std::string& line) {
  std::istringstream words(line);
  std::string directive;
  std::string header;
  std::getline(words >> std::ws, directive, '"');
  std::getline(words, header, '"');
  directive.erase(std::remove_if(directive.begin(), directive.end(), ::isspace), directive.end());
  if (directive != "#include") return "";
  const std::set<std::string>& rooms = allowed.at(room);
  const std::string from = header.substr(0, header.find('/'));
  if (!allowed.count(from)) return "includes \"" + header + "\", which is not given from the top";
  if (rooms.count(from) || rooms.count(header)) return "";
  return "includes \"" + header + "\", but " + room + " may not include " + from;
}

bool is_source(const fs::path& path) {
  static const std::set<std::string> extensions = {".h", ".cpp", ".cu", ".cuh"};
  return extensions.count(path.extension().string()) != 0;
}

std::vector<std::string> complaints_about(const std::string& room) {
  std::vector<std::string> complaints;
  for (const auto& entry : fs::recursive_directory_iterator(root / room)) {
    if (!is_source(entry.path())) continue;
    std::ifstream file(entry.path());
    int number = 0;
    for (std::string line; std::getline(file, line);) {
      ++number;
      const std::string wrong = complaint(room, line);
      if (!wrong.empty())
        complaints.push_back(fs::relative(entry.path(), root).string() + ":" + std::to_string(number) + ": " +
                             wrong);
    }
  }
  return complaints;
}

std::string read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

}  // namespace

TEST_CASE("no room includes what it may not") {
  for (const auto& [room, unused] : allowed)
    for (const std::string& wrong : complaints_about(room)) FAIL_CHECK(wrong);
}

TEST_CASE("the include check sees what it is for") {
  CHECK(complaint("runtime", "#include \"parallel/grid.h\"") ==
        "includes \"parallel/grid.h\", but runtime may not include parallel");
  CHECK(complaint("io", "  # include \"parallel/comm/communicator.h\"") ==
        "includes \"parallel/comm/communicator.h\", but io may not include parallel");
  CHECK(complaint("io", "#include \"parallel/grid.h\"  // layouts").empty());
  CHECK(complaint("model", "#include \"tests/support/catch.h\"") ==
        "includes \"tests/support/catch.h\", but model may not include tests");
  CHECK(complaint("model", "#include \"config.h\"") ==
        "includes \"config.h\", which is not given from the top");
  CHECK(complaint("runtime", "#include <vector>").empty());
  CHECK(complaint("runtime", "// see \"parallel/grid.h\"").empty());
}

namespace {

/// A node of the include graph: a header with its sources ("model/block"), or a subfolder ("model/heads").
std::string node_of(const fs::path& file, bool by_folder) {
  if (by_folder && std::distance(file.begin(), file.end()) > 2)
    return (*file.begin() / *std::next(file.begin())).string();
  return (file.parent_path() / file.stem()).string();
}

/// Which nodes each node of the room includes, except itself.
std::map<std::string, std::set<std::string>> includes_of(const std::string& room, bool by_folder) {
  std::map<std::string, std::set<std::string>> includes;
  const std::regex directive("\\s*#\\s*include\\s+\"(" + room + "/[^\"]+)\".*");
  for (const auto& entry : fs::recursive_directory_iterator(root / room)) {
    if (!is_source(entry.path())) continue;
    const std::string node = node_of(fs::relative(entry.path(), root), by_folder);
    std::ifstream file(entry.path());
    std::smatch header;
    for (std::string line; std::getline(file, line);)
      if (std::regex_match(line, header, directive))
        if (const std::string other = node_of(header[1].str(), by_folder); other != node)
          includes[node].insert(other);
  }
  return includes;
}

/// The nodes that include themselves through others: those that remain after all that include nothing, or
/// that nothing includes, are removed.
std::set<std::string> in_circles(const std::map<std::string, std::set<std::string>>& includes) {
  std::set<std::pair<std::string, std::string>> edges;
  for (const auto& [from, others] : includes)
    for (const std::string& to : others) edges.emplace(from, to);
  for (bool removed = true; removed;) {
    std::set<std::string> sources, targets;
    for (const auto& [from, to] : edges) sources.insert(from), targets.insert(to);
    removed = std::erase_if(edges, [&](const auto& edge) {
                return targets.count(edge.first) == 0 || sources.count(edge.second) == 0;
              }) > 0;
  }
  std::set<std::string> nodes;
  for (const auto& [from, to] : edges) nodes.insert({from, to});
  return nodes;
}

}  // namespace

TEST_CASE("neither files nor subfolders of model include each other in a circle") {
  const std::set<std::string> none;
  CHECK(in_circles(includes_of("model", false)) == none);
  CHECK(in_circles(includes_of("model", true)) == none);
}

TEST_CASE("the circle check sees what it is for") {
  const std::set<std::string> circle{"model/heads", "model/layout"}, none;
  CHECK(in_circles({{"model/rank_model", {"model/layout"}},
                    {"model/layout", {"model/heads"}},
                    {"model/heads", {"model/layout", "model/block"}}}) == circle);
  CHECK(in_circles({{"model/layout", {"model/heads"}}, {"model/heads", {"model/block"}}}) == none);
}

TEST_CASE("the top holds the rooms and nothing else") {
  const std::set<std::string> expected = {"runtime", "parallel", "model",          "io",
                                          "launch",  "tests",    "CMakeLists.txt", "CMakePresets.json",
                                          "LICENSE", "README.md"};
  const std::set<std::string> made_here = {"build", "runs"};  // ignored by git
  std::set<std::string> found;
  for (const auto& entry : fs::directory_iterator(root)) {
    const std::string name = entry.path().filename();
    if (name.front() != '.' && !made_here.count(name)) found.insert(name);
  }
  CHECK(found == expected);
}

TEST_CASE("every room has a page that tells what lives there") {
  for (const auto& [room, unused] : allowed) {
    INFO(room);
    CHECK(read(root / room / "README.md").rfind("# ", 0) == 0);
  }
}

TEST_CASE("no test has a name that its program reads as a flag") {
  const std::regex name(R"re(TEST_CASE\(\s*"-)re");
  for (const auto& entry : fs::recursive_directory_iterator(root / "tests"))
    if (is_source(entry.path()) && entry.path().filename() != "repository_test.cpp") {
      INFO(entry.path().string());
      CHECK_FALSE(std::regex_search(read(entry.path()), name));
    }
}

TEST_CASE("every link of a page leads to a file") {
  std::vector<fs::path> pages{root / "README.md"};
  for (const auto& [room, unused] : allowed)
    for (const auto& entry : fs::recursive_directory_iterator(root / room))
      if (entry.path().extension() == ".md") pages.push_back(entry.path());
  const std::regex link(R"(\]\(([^)#\s]+)[^)]*\))");
  for (const fs::path& page : pages) {
    const std::string text = read(page);
    for (std::sregex_iterator at(text.begin(), text.end(), link), end; at != end; ++at) {
      const std::string to = (*at)[1];
      if (to.find("://") != std::string::npos) continue;
      INFO(page.string() << " links to " << to);
      CHECK(fs::exists(page.parent_path() / to));
    }
  }
}

TEST_CASE("the documented table of options is the program's") {
  const std::string page = read(root / "launch/docs/configuration.md");
  const std::string begin = "<!-- options: the output of foretoken train --list-options -->\n";
  const std::size_t from = page.find(begin);
  REQUIRE(from != std::string::npos);
  const std::size_t to = page.find("<!-- end of options -->", from);
  REQUIRE(to != std::string::npos);
  const std::size_t start = from + begin.size();
  CHECK(page.substr(start, to - start) == foretoken::option_markdown());
}
