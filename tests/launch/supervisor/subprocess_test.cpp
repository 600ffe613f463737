#include "launch/supervisor/subprocess.h"

#include <chrono>
#include <csignal>
#include <fstream>
#include <iterator>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>

#include "launch/supervisor/launcher.h"
#include "launch/supervisor/process_tree.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

CommandEnd run_in(const TemporaryFolder& folder, const std::string& line) {
  return run_command(line, {.output_file = (folder / "output").string()});
}

}  // namespace

TEST_CASE("a launcher gets the number of ranks in place of {ranks}, or as -n at its end") {
  CHECK(with_ranks("mpirun", 4) == "mpirun -n 4");
  CHECK(with_ranks("mpirun -np {ranks} --host a:{ranks}", 12) == "mpirun -np 12 --host a:12");
}

TEST_CASE("the code of a command is its exit code, or 128 + the signal that ended it") {
  const TemporaryFolder folder;
  CHECK(run_in(folder, "sh -c 'echo said; exit 75'").code == 75);
  CHECK(run_in(folder, "sh -c 'kill -9 $$'").code == 137);
  CHECK(run_in(folder, "/no/such/command").code == 127);
  CHECK_THAT(text_of(folder / "output"), contains("said\n"));
}

TEST_CASE("signals to the terminal's or the job's processes do not reach a launcher") {
  const TemporaryFolder folder;
  const CommandEnd end = run_in(folder, "sh -c 'kill -TERM $$; kill -INT $$; kill -HUP $$; exit 7'");
  CHECK(end.code == 7);
  CHECK_FALSE(end.cut_short);
}

TEST_CASE("no process that a command started is left, also in another session or under another parent") {
  const TemporaryFolder folder;
  const std::string pids = (folder / "pids").string();
  // One process in its own session whose parent has ended, and one that ignores SIGTERM.
  const CommandEnd end =
      run_in(folder, fmt::format("sh -c '(setsid sh -c \"echo \\$\\$ >> {0}; exec sleep 600\" &) ; "
                                 "(trap \"\" TERM; echo $$ >> {0}; exec sleep 600) & sleep 0.3; exit 5'",
                                 pids));
  CHECK(end.code == 5);
  CHECK(ProcessTree().members().empty());
  std::ifstream file(pids);
  int count = 0;
  for (pid_t pid = 0; file >> pid; ++count) CHECK(kill(pid, 0) != 0);
  CHECK(count == 2);
}

TEST_CASE("a process of this program that sleeps two seconds", "[.]") {
  std::this_thread::sleep_for(std::chrono::seconds(2));
}

TEST_CASE("a launcher that continues without its ranks is ended, and its code is 137") {
  const TemporaryFolder folder;
  const std::string rank = std::filesystem::read_symlink("/proc/self/exe").string();
  const CommandEnd end = run_command(
      fmt::format("sh -c '\"{}\" \"a process of this program that sleeps two seconds\"; sleep 600'", rank),
      {.output_file = (folder / "output").string(), .launcher_limit = std::chrono::seconds(1)});
  CHECK(end.cut_short);
  CHECK(end.code == 137);
  CHECK(ProcessTree().members().empty());
}

TEST_CASE("a launcher that starts no rank and prints nothing is ended, a launcher that prints is not") {
  const TemporaryFolder folder;
  const auto end_of = [&](const std::string& line) {
    return run_command(
        line, {.output_file = (folder / "output").string(), .startup_limit = std::chrono::seconds(1)});
  };
  CHECK(end_of("sleep 600").cut_short);
  CHECK_FALSE(end_of("sh -c 'echo started elsewhere; sleep 3'").cut_short);
}

TEST_CASE("a process is signalled only once it has a handler for the signal") {
  const pid_t child = fork();
  if (child == 0) {
    for (;;) pause();
  }
  CHECK_FALSE(catches_signal(child, SIGUSR1));
  CHECK_FALSE(catches_signal(child, SIGKILL));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);

  std::signal(SIGUSR1, [](int) {});
  CHECK(catches_signal(getpid(), SIGUSR1));
  std::signal(SIGUSR1, SIG_DFL);
  CHECK_FALSE(catches_signal(getpid(), SIGUSR1));
}
