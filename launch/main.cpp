#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "launch/cli.h"
#include "launch/failure.h"

namespace foretoken {
namespace {

struct RunCommand {
  int operator()(const PrintText& print) const {
    fmt::print("{}", print.text);
    return 0;
  }
  template <class Arguments>
  int operator()(const Arguments&) const {
    throw DefectError("foretoken: this command has no body");
  }
};

}  // namespace
}  // namespace foretoken

int main(int argc, char** argv) {
  using namespace foretoken;
  try {
    return std::visit(RunCommand{}, parse_command_line(std::vector<std::string>(argv + 1, argv + argc)));
  } catch (...) {
    const Failure failure = current_failure();
    report(failure);
    return static_cast<int>(failure.code);
  }
}
