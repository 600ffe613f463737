// The copy of the console in log.txt.
#include "launch/console/console.h"

#include <cstdint>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <thread>
#include <unistd.h>

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

/// Captures stdout of this process during its lifetime.
class StandardOutput {
 public:
  explicit StandardOutput(int descriptor) : kept_(::dup(STDOUT_FILENO)) {
    std::fflush(stdout);
    ::dup2(descriptor, STDOUT_FILENO);
  }
  explicit StandardOutput(const char* path) : StandardOutput(opened(path)) {}
  ~StandardOutput() { restore(); }
  void restore() const {
    std::fflush(stdout);
    std::clearerr(stdout);
    ::dup2(kept_, STDOUT_FILENO);
  }

 private:
  static int opened(const char* path) {
    static const int file = ::open(path, O_WRONLY);
    return file;
  }
  int kept_;
};

std::string read_all(int descriptor) {
  std::string text;
  char piece[4096];
  for (ssize_t count; (count = ::read(descriptor, piece, sizeof piece)) > 0;)
    text.append(piece, static_cast<std::size_t>(count));
  return text;
}

}  // namespace

TEST_CASE("no terminal escape in a name or a path reaches the console") {
  const TemporaryFolder folder;
  {
    Console console(true);
    console.open_log((folder / "log.txt").string());
    console.line("run \x1b]0;title\x07 in a\tb\nnext");
    console.warn("\x1b[31mred");
  }
  CHECK(read(folder / "log.txt") == "run \\x1b]0;title\\x07 in a\tb\nnext\nwarning: \\x1b[31mred\n");
}

TEST_CASE("the log contains lines and warnings, also earlier ones; a resumed run appends to it") {
  const TemporaryFolder folder;
  const std::string path = (folder / "log.txt").string();
  {
    Console console(true);
    console.line("before the log");
    console.open_log(path);
    console.line("step 1");
    console.warn("metrics: full");
    CHECK(
        read(path) ==
        "before the log\nstep 1\nwarning: metrics: full\n");  // each line is written before the call returns
  }
  Console console(true);
  console.open_log(path);
  console.line("step 2");
  CHECK(read(path) == "before the log\nstep 1\nwarning: metrics: full\nstep 2\n");
}

TEST_CASE("the console of a rank other than 0 is silent and writes no log") {
  const TemporaryFolder folder;
  Console console(false);
  console.open_log((folder / "log.txt").string());
  console.line("nobody reads this");
  CHECK_FALSE(std::filesystem::exists(folder / "log.txt"));
}

TEST_CASE("a log that cannot be opened is an error, a full disk is a warning") {
  Console console(true);
  CHECK_THROWS_AS(console.open_log("/nowhere/log.txt"), DataError);
  Console full(true);
  full.open_log("/dev/full");
  CHECK_NOTHROW(full.line("the disk is full"));
}

TEST_CASE("after a flush the log of a queued console has all lines in order") {
  const TemporaryFolder folder;
  const std::string path = (folder / "log.txt").string();
  Console console(true, Console::Delivery::queue);
  console.line("before the log");
  console.open_log(path);
  std::string expected = "before the log\n";
  for (int i = 0; i < 100; ++i) {
    console.line(std::to_string(i));
    expected += std::to_string(i) + "\n";
  }
  console.line_of_any_rank("stop requested");
  console.flush();
  CHECK(read(path) == expected + "stop requested\n");
}

TEST_CASE("if stdout does not accept text, require_written() is an error") {
  const StandardOutput full("/dev/full");
  Console console(true);
  console.line("the result");
  CHECK_THROWS_AS(console.require_written(), DataError);
  CHECK_THROWS_AS(print_text("the result"), DataError);
}

TEST_CASE("a reader that stops does not delay the log, and gets the remaining lines when it resumes") {
  const TemporaryFolder folder;
  const std::string path = (folder / "log.txt").string();
  const std::string wide(1000, 'x');
  int pipe[2];
  REQUIRE(::pipe(pipe) == 0);
  std::string received;
  {
    const StandardOutput stuck(pipe[1]);
    ::close(pipe[1]);
    std::optional<Console> console(std::in_place, true, Console::Delivery::queue);
    console->open_log(path);
    for (int i = 0; i < 1500; ++i) {
      console->line(std::to_string(i) + wide);  // 1.5 MB; the terminal's queue holds 1 MiB
      if (i % 750 == 749) console->flush();     // also flushes the log's queue
    }
    CHECK(read(path).size() > 1500 * wide.size());
    // The reader resumes. It gets about 16 KiB from the pipe, then the queue's lines, then the number of
    // dropped lines.
    std::thread reader([&] { received = read_all(pipe[0]); });
    console->flush();
    console->line("last");
    console.reset();
    stuck.restore();
    reader.join();
  }
  std::int64_t shown = 0, dropped = 0;
  std::istringstream lines(received);
  for (std::string line; std::getline(lines, line) && line != "last";)
    if (std::sscanf(line.c_str(), "(%ld lines dropped", &dropped) == 0)
      CHECK(line == std::to_string(shown++) + wide);
  CHECK(dropped > 0);
  CHECK(shown + dropped == 1500);
}
