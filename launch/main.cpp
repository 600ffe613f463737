#include <csignal>
#include <optional>
#include <sstream>
#include <string>
#include <variant>
#include <vector>

#include "io/datasets/dataset_examination.h"
#include "io/files/printable.h"
#include "launch/cli/cli.h"
#include "launch/commands/flight.h"
#include "launch/commands/inspect.h"
#include "launch/commands/plan.h"
#include "launch/commands/tokenize.h"
#include "launch/console/console.h"
#include "launch/console/failure.h"
#include "launch/console/stop_signal.h"

namespace foretoken {
namespace {

struct RunCommand {
  int operator()(const PrintText& print) const {
    print_text(print.text);
    return 0;
  }
  int operator()(const TokenizeOptions& options) const { return tokenize(options); }
  int operator()(const TrainCommand& command) const { return train(command.config, command.arguments); }
  int operator()(const EvaluateArguments& arguments) const { return evaluate(arguments); }
  int operator()(const GenerateArguments& arguments) const { return generate(arguments); }
  int operator()(const InspectArguments& arguments) const {
    std::ostringstream text;
    const int code = arguments.flight ? inspect_flight(arguments.path, text)
                                      : inspect(arguments.path, arguments.verify, text);
    print_text(printable_lines(text.str()));
    return code;
  }
  int operator()(const SuperviseCommand& command) const {
    return supervise(command.config, command.arguments);
  }
  int operator()(const PlanCommand& command) const {
    if (command.arguments.measure) return measure_device(command.config, command.arguments);
    std::ostringstream text;
    const int code = plan(command.config, command.arguments, text);
    print_text(printable_lines(text.str()));
    return code;
  }
  int operator()(const DoctorCommand& command) const { return doctor(command.config, command.arguments); }
  int operator()(const StudyArguments& arguments) const { return study(arguments); }
  int operator()(const ReportArguments& arguments) const { return write_run_page(arguments); }
};

}  // namespace
}  // namespace foretoken

int main(int argc, char** argv) {
  using namespace foretoken;
  if (const std::optional<int> code = run_examination(argc, argv)) return *code;
  // A write beyond a file's size limit, or to a closed pipe, then returns an error instead of ending the
  // process.
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (!words.empty() && words.front() == "train")
    catch_stop_signals();  // a stop signal may arrive during start-up
  try {
    return std::visit(RunCommand{}, parse_command_line(words));
  } catch (...) {
    const Failure failure = current_failure();
    report(failure);
    return static_cast<int>(failure.code);
  }
}
