// Rules of the repository: allowed includes between folders, files at the top level, links between pages.
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

// For each room (top-level folder): the rooms, and single headers of other rooms, that it may include.
const std::map<std::string, std::set<std::string>> allowed = {
    {"runtime", {"runtime"}},
    {"parallel", {"parallel", "runtime"}},
    {"model", {"model", "parallel", "runtime"}},
    {"io", {"io", "runtime", "parallel/grid.h", "parallel/optimizer/shard.h"}},
    {"launch", {"launch", "io", "model", "parallel", "runtime"}},
    {"tests", {"tests", "launch", "io", "model", "parallel", "runtime"}},
};

/// Says why the room's files must not contain the line; empty if they may.
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

TEST_CASE("no room includes a header that it may not include") {
  for (const auto& [room, unused] : allowed)
    for (const std::string& wrong : complaints_about(room)) FAIL_CHECK(wrong);
}

TEST_CASE("the include check finds a forbidden include") {
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

/// A node of the include graph: a header with its sources ("model/layout") or, if `by_folder`, a folder below
/// a room ("model/heads", "parallel/comm/cuda"). Files at the root of a room, and at the root of
/// runtime/operators, hold what the folders beside them share, so each header is a node by itself.
std::string node_of(const fs::path& file, bool by_folder) {
  const fs::path folder = file.parent_path();
  if (by_folder && folder.has_parent_path() && folder != "runtime/operators") return folder.string();
  return (folder / file.stem()).string();
}

/// The headers that a source includes. Those between `#if FORETOKEN_WITH_CUDA` and `#else` or `#endif` of a
/// .cpp file do not count: there a generic interface calls its CUDA version, which implements the interface
/// and therefore includes it too.
std::vector<std::string> headers_of(std::istream& source, bool is_cpp) {
  static const std::regex directive(R"re(\s*#\s*include\s+"([^"]+)".*)re");
  static const std::regex cuda_part(R"(\s*#\s*if\s+FORETOKEN_WITH_CUDA\s*)"), end_of_part(R"(\s*#\s*e.*)");
  std::vector<std::string> headers;
  std::smatch header;
  bool counts = true;
  for (std::string line; std::getline(source, line);) {
    if (line.find('#') == std::string::npos) continue;
    if (is_cpp && std::regex_match(line, cuda_part)) counts = false;
    if (std::regex_match(line, end_of_part)) counts = true;
    if (counts && std::regex_match(line, header, directive)) headers.push_back(header[1]);
  }
  return headers;
}

/// The nodes that each node of the room includes, except itself.
std::map<std::string, std::set<std::string>> includes_of(const std::string& room, bool by_folder) {
  std::map<std::string, std::set<std::string>> includes;
  for (const auto& entry : fs::recursive_directory_iterator(root / room)) {
    if (!is_source(entry.path())) continue;
    const std::string node = node_of(fs::relative(entry.path(), root), by_folder);
    std::ifstream file(entry.path());
    for (const std::string& header : headers_of(file, entry.path().extension() == ".cpp"))
      if (const std::string other = node_of(header, by_folder);
          header.rfind(room + "/", 0) == 0 && other != node)
        includes[node].insert(other);
  }
  return includes;
}

/// The nodes that include themselves through others: nodes that include nothing, or that no node includes,
/// are removed until none is left.
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

TEST_CASE("the folders of no room include each other in a circle") {
  const std::set<std::string> none;
  for (const auto& [room, unused] : allowed) {
    INFO(room);
    CHECK(in_circles(includes_of(room, true)) == none);
  }
}

TEST_CASE("the files of model do not include each other in a circle") {
  CHECK(in_circles(includes_of("model", false)) == std::set<std::string>{});
}

TEST_CASE("the circle check finds a circle") {
  const std::set<std::string> circle{"model/heads", "model/layout"}, none;
  CHECK(in_circles({{"model/rank_model", {"model/layout"}},
                    {"model/layout", {"model/heads"}},
                    {"model/heads", {"model/layout", "model/block"}}}) == circle);
  CHECK(in_circles({{"model/layout", {"model/heads"}}, {"model/heads", {"model/block"}}}) == none);

  CHECK(node_of("model/heads/head_kinds.cpp", true) == "model/heads");
  CHECK(node_of("model/heads/head_kinds.cpp", false) == "model/heads/head_kinds");
  CHECK(node_of("parallel/comm/cuda/nccl_link.h", true) == "parallel/comm/cuda");
  CHECK(node_of("runtime/operators/rowwise/rope.cu", true) == "runtime/operators/rowwise");
  CHECK(node_of("runtime/operators/dispatch.h", true) == "runtime/operators/dispatch");
  CHECK(node_of("runtime/stream.cpp", true) == "runtime/stream");

  const std::string text =
      "#include \"a.h\"\n#if FORETOKEN_WITH_CUDA\n#include \"b.h\"\n#else\n#include \"c.h\"\n#endif\n"
      "#include \"d.h\"  // why\n";
  std::istringstream interface(text), kernel(text);
  CHECK(headers_of(interface, true) == std::vector<std::string>{"a.h", "c.h", "d.h"});
  CHECK(headers_of(kernel, false) == std::vector<std::string>{"a.h", "b.h", "c.h", "d.h"});
}

TEST_CASE("the top-level folder contains the rooms and no other folder") {
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

TEST_CASE("no folder holds more than 28 source files") {
  std::map<std::string, int> files;
  for (const auto& [room, unused] : allowed)
    for (const auto& entry : fs::recursive_directory_iterator(root / room))
      if (is_source(entry.path())) ++files[fs::relative(entry.path().parent_path(), root).string()];
  for (const auto& [folder, count] : files) {
    INFO(folder);
    CHECK(count <= 28);
  }
}

TEST_CASE("every room has a README") {
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

/// A page without its blocks of code, in which "[](int i)" is no link.
std::string without_code(const std::string& page) {
  std::istringstream lines(page);
  std::string line, text;
  for (bool code = false; std::getline(lines, line);) {
    const bool fence = line.rfind("```", 0) == 0;
    if (!code && !fence) text += line + "\n";
    code = code != fence;
  }
  return text;
}

TEST_CASE("every link in a page leads to a file") {
  std::vector<fs::path> pages{root / "README.md"};
  for (const auto& [room, unused] : allowed)
    for (const auto& entry : fs::recursive_directory_iterator(root / room))
      if (entry.path().extension() == ".md") pages.push_back(entry.path());
  const std::regex link(R"(\]\(([^)#\s]+)[^)]*\))");
  for (const fs::path& page : pages) {
    const std::string text = without_code(read(page));
    for (std::sregex_iterator at(text.begin(), text.end(), link), end; at != end; ++at) {
      const std::string to = (*at)[1];
      if (to.find("://") != std::string::npos) continue;
      INFO(page.string() << " links to " << to);
      CHECK(fs::exists(page.parent_path() / to));
    }
  }
}

TEST_CASE("the documented table of options equals the program's") {
  const std::string page = read(root / "launch/docs/configuration.md");
  const std::string begin = "<!-- options: the output of foretoken train --list-options -->\n";
  const std::size_t from = page.find(begin);
  REQUIRE(from != std::string::npos);
  const std::size_t to = page.find("<!-- end of options -->", from);
  REQUIRE(to != std::string::npos);
  const std::size_t start = from + begin.size();
  CHECK(page.substr(start, to - start) == foretoken::option_markdown());
}
