#include <csignal>
#include <iostream>
#include <string>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "launch/cli.h"
#include "launch/failure.h"
#include "launch/inspect.h"
#include "launch/tokenize.h"

namespace foretoken {
namespace {

struct RunCommand {
  int operator()(const PrintText& print) const {
    fmt::print("{}", print.text);
    return 0;
  }
  int operator()(const TokenizeOptions& options) const { return tokenize(options); }
  int operator()(const TrainCommand& command) const { return train(command.config, command.arguments); }
  int operator()(const EvaluateArguments& arguments) const { return evaluate(arguments); }
  int operator()(const GenerateArguments& arguments) const { return generate(arguments); }
  int operator()(const InspectArguments& arguments) const {
    return inspect(arguments.path, arguments.verify, std::cout);
  }
  int operator()(const SuperviseCommand& command) const {
    return supervise(command.config, command.arguments);
  }
  int operator()(const StudyArguments& arguments) const { return study(arguments); }
};

}  // namespace
}  // namespace foretoken

int main(int argc, char** argv) {
  using namespace foretoken;
  std::signal(SIGXFSZ,
              SIG_IGN);  // a file over its quota is an error of the write, not the end of the process
  try {
    return std::visit(RunCommand{}, parse_command_line(std::vector<std::string>(argv + 1, argv + argc)));
  } catch (...) {
    const Failure failure = current_failure();
    report(failure);
    return static_cast<int>(failure.code);
  }
}
