// The output of a training run: its lines in a pipe and on a terminal, and the commands at its end.

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

#include <fmt/format.h>

#include "launch/console/terminal.h"
#include "tests/support/catch.h"
#include "tests/support/source_tree.h"
#include "tests/system/program.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

/// The commands of a closing block by their purpose.
std::map<std::string, std::string> commands_in(const std::string& output) {
  std::map<std::string, std::string> commands;
  for (const std::string& line : lines_of(output))
    for (const std::string purpose : {"evaluate", "generate", "resume", "extend"})
      if (const auto at = line.find_first_not_of(' ', purpose.size());
          line.starts_with(purpose + "  ") && line.find("foretoken", at) != std::string::npos)
        commands[purpose] = line.substr(at);
  return commands;
}

/// The lines that the terminal showed, without control sequences. A line that was redrawn counts as several
/// lines.
std::vector<std::string> drawn_lines(std::string text) {
  for (std::size_t at = 0; (at = text.find("\033[K", at)) != std::string::npos;) text.erase(at, 3);
  std::replace(text.begin(), text.end(), '\r', '\n');
  return lines_of(text);
}

const std::string without_permission = "env -u OMPI_ALLOW_RUN_AS_ROOT -u OMPI_ALLOW_RUN_AS_ROOT_CONFIRM ";

}  // namespace

TEST_CASE("launch/run.sh starts ranks anywhere, and every command that a run prints at its end succeeds") {
  const TemporaryFolder folder;
  const std::string run_sh = in_source_tree("launch/run.sh");
  const Outcome stopped =
      run(without_permission + run_sh + " 2 " + program() + " " + small_training(folder) +
          " --set parallel.pp=2 --stop-after 4 --run-directory '" + (folder / "a run").string() + "'");
  INFO(stopped.output);
  CHECK(stopped.code == 75);
  CHECK_THAT(stopped.output, contains("stopped    at step 4 of 40 in "));
  const auto at_stop = commands_in(stopped.output);
  REQUIRE(at_stop.contains("resume"));
  CHECK_THAT(at_stop.at("resume"), contains("mpirun --quiet -n 2 --oversubscribe --bind-to none "));
  const Outcome done = run(without_permission + at_stop.at("resume"));
  INFO(done.output);
  REQUIRE(done.code == 0);
  CHECK_THAT(done.output, contains("done       40 steps, 36 of them in this launch in "));
  const auto at_end = commands_in(done.output);
  REQUIRE(at_end.size() == 3);
  const Outcome again = run(without_permission + at_stop.at("resume"));
  CHECK(again.code == 0);
  CHECK_THAT(again.output, contains("40 steps, train.steps is 40: nothing is left to train"));
  CHECK(commands_in(again.output) == at_end);
  for (const auto& [purpose, command] : at_end) {
    const Outcome outcome = run(without_permission + command);
    INFO(command << "\n" << outcome.output);
    CHECK(outcome.code == 0);
    if (purpose == "extend") CHECK_THAT(outcome.output, contains("done       80 steps, 40 of them"));
  }
}

TEST_CASE(
    "in a pipe a run prints aligned lines every run.log_every steps, and metrics.jsonl has every step") {
  const TemporaryFolder folder;
  const std::string path = (folder / "run").string();
  const Outcome outcome = run(program_on(1) + " " + small_training(folder) +
                              " --set train.steps=25 --set checkpoint.every=20 --run-directory " + path);
  INFO(outcome.output);
  REQUIRE(outcome.code == 0);
  CHECK(outcome.output.find('\033') == std::string::npos);
  std::vector<std::string> steps, saves;
  for (const std::string& line : lines_of(outcome.output)) {
    if (line.starts_with("step ")) steps.push_back(line);
    if (line.starts_with("checkpoint ")) saves.push_back(line);
  }
  REQUIRE(steps.size() == 4);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    CHECK(steps[i].starts_with(fmt::format("step {:>2}/25  loss ", std::vector{1, 10, 20, 25}[i])));
    for (const char* column : {"main ", "mtp ", "grad ", "lr ", "tok/s"})
      CHECK(steps[i].find(column) == steps[0].find(column));
    // z-scores are the last columns; they need enough earlier steps.
    CHECK((steps[i].find("  z ") != std::string::npos) == (i >= 2));
  }
  CHECK(saves.size() == 2);
  std::ifstream metrics(path + "/metrics.jsonl");
  int count = 0;
  for (std::string line; std::getline(metrics, line);) {
    count += line.find("\"kind\":\"step\"") != std::string::npos;
    if (line.find("\"step\":21,") != std::string::npos)  // the first step after a save
      CHECK_THAT(line, contains("\"checkpoint_seconds\":"));
  }
  CHECK(count == 25);
}

TEST_CASE("on a terminal no line of a run wraps, and a progress bar stays below the lines") {
  const TemporaryFolder folder;
  const std::string train = program_on(1) + " " + small_training(folder) +
                            " --set data.validation_path=" + (folder / "data.h5").string() +
                            " --set train.steps=12 --set train.evaluate_rows=8 --set mtp.diagnose_every=6";
  for (const int columns : {80, 120}) {
    const std::string path = (folder / fmt::format("run{}", columns)).string();
    const Outcome outcome =
        run(fmt::format("env TERM=xterm script -qec \"stty cols {}; {} --run-directory {}\" /dev/null",
                        columns, train, path));
    INFO(outcome.output);
    REQUIRE(outcome.code == 0);
    CHECK_THAT(outcome.output, contains("step 12/12  loss "));
    CHECK_THAT(outcome.output, contains("[###") && contains(clear_line.data()));
    const auto commands = commands_in(outcome.output);
    for (const std::string& line : drawn_lines(outcome.output)) {
      INFO(line);
      if (!commands.contains(line.substr(0, line.find(' ')))) CHECK(width_of(line) <= columns);
    }
    std::ifstream log(path + "/log.txt");
    for (std::string line; std::getline(log, line);) CHECK(line.find('\033') == std::string::npos);
  }
}
