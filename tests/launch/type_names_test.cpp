// A rule of the repository: one header for each type name of a namespace. Two definitions would be one type
// for the linker, with the layout of whichever the compiler saw.
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/source_tree.h"

namespace fs = std::filesystem;

namespace {

/// A header without comments, strings and directives.
std::string code_of(std::string text) {
  static const std::regex no_code(
      R"(//[^\n]*|/\*[^]*?\*/|R"([^(\s]*)\([^]*?\)\1"|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)+'|(?:^|\n)\s*#(?:[^\\\n]|\\[^])*)");
  return std::regex_replace(text, no_code, "\n");
}

/// The struct, class, union and enum definitions of a header outside of types and functions, such as
/// "foretoken::Tensor". Declarations without a body and template specializations do not count.
std::set<std::string> types_defined_in(const std::string& header) {
  static const std::regex token(
      R"(\bnamespace\b([\w:\s]*)\{|)"
      R"(\b(?:struct|class|union|enum(?:\s+(?:class|struct))?)\s+(?:\[\[[^\]]*\]\]\s*|alignas\([^)]*\)\s*)*(\w+)\s*(?:final\s*)?(?::[^;{}()=]*)?\{|)"
      R"(\{|\})");
  const std::string code = code_of(header);
  std::set<std::string> types;
  std::vector<std::string> scopes;  // of open braces: "foretoken::", or "{" inside a type, function or value
  for (std::sregex_iterator at(code.begin(), code.end(), token), end; at != end; ++at) {
    const std::string text = at->str();
    if (text == "}") {
      if (!scopes.empty()) scopes.pop_back();
      continue;
    }
    std::string scope = "{";
    if ((*at)[1].matched) {
      scope = std::regex_replace((*at)[1].str(), std::regex(R"(\s)"), "") + "::";
    } else if ((*at)[2].matched) {
      std::string name;
      for (const std::string& outer : scopes) name += outer;
      if (name.find('{') == std::string::npos) types.insert(name + (*at)[2].str());
    }
    scopes.push_back(scope);
  }
  return types;
}

/// Every type name that several of the headers define, with their names: "foretoken::Link: a.h, b.h".
std::vector<std::string> doubles_in(const std::map<std::string, std::string>& headers) {
  std::map<std::string, std::string> definers;
  std::set<std::string> twice;
  for (const auto& [path, text] : headers)
    for (const std::string& type : types_defined_in(text)) {
      const auto [entry, first] = definers.emplace(type, path);
      if (first) continue;
      entry->second += ", " + path;
      twice.insert(type);
    }
  std::vector<std::string> doubles;
  for (const std::string& type : twice) doubles.push_back(type + ": " + definers.at(type));
  return doubles;
}

using Names = std::set<std::string>;
using Doubles = std::vector<std::string>;

}  // namespace

TEST_CASE("no two headers define a type of the same name in the same namespace") {
  const fs::path root = foretoken::testing::in_source_tree("");
  std::map<std::string, std::string> headers;
  std::size_t types = 0;
  for (const char* room : {"runtime", "parallel", "model", "io", "launch", "tests"})
    for (const auto& entry : fs::recursive_directory_iterator(root / room))
      if (entry.path().extension() == ".h" || entry.path().extension() == ".cuh") {
        std::ostringstream text;
        text << std::ifstream(entry.path()).rdbuf();
        types += types_defined_in(text.str()).size();
        headers.emplace(fs::relative(entry.path(), root).string(), text.str());
      }
  CHECK(types > headers.size());
  CHECK(doubles_in(headers) == Doubles{});
}

TEST_CASE("the search for types finds definitions and leaves out declarations, members and specializations") {
  const std::string header = R"(
#define TWO_LINES struct Macro \
  { }
// struct Comment {};
namespace foretoken {
struct Declared;
enum class Kind : int;
enum class Severity : unsigned char { none };
class [[nodiscard]] Session final : public Base {
  struct Member {};
  int line() const { return '{'; }
};
template <class T>
struct Pair<T, int> {};
template <> struct alignas(16) Holder { const char* text = "struct Quoted {"; };
inline struct Declared f(int n) { struct Local {}; return {}; }
namespace cuda { struct Graph {}; }
}
struct Outside {};
)";
  CHECK(types_defined_in(header) == Names{"foretoken::Severity", "foretoken::Session", "foretoken::Holder",
                                          "foretoken::cuda::Graph", "Outside"});
}

TEST_CASE("a type that two headers define is found, if its namespace is the same") {
  const std::string link = "namespace foretoken {\nstruct Link {};\n}";
  CHECK(doubles_in({{"a.h", link}, {"b.h", link}, {"c.h", "namespace foretoken { struct Link; }"}}) ==
        Doubles{"foretoken::Link: a.h, b.h"});
  CHECK(doubles_in({{"a.h", link}, {"b.h", "namespace foretoken::cuda { struct Link {}; }"}}).empty());
  CHECK(
      doubles_in({{"a.h", link}, {"b.h", "namespace foretoken { namespace { struct Link {}; } }"}}).empty());
}
