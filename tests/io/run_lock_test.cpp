// The lock of a run folder: its holder, takeovers, and that two jobs never hold it together.
#include "io/checkpoint/run_lock.h"

#include <atomic>
#include <csignal>
#include <fstream>
#include <memory>
#include <regex>
#include <sstream>
#include <sys/stat.h>

#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/fault_injection.h"
#include "tests/support/temporary_folder.h"

namespace foretoken {
namespace {

using namespace std::chrono_literals;

std::string read(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

/// A lock whose holder is on another host and whose last heartbeat is `age` old.
void write_foreign_lock(const TemporaryFolder& folder, std::chrono::seconds age) {
  const auto file = folder.write(
      "run.lock", R"({"id":"00aa","host":"node7","boot":"another","pid_namespace":"pid:[1]","pid":4242,)"
                  R"("process_start":"1","since":"2026-11-28T05:00:00Z"})");
  std::filesystem::last_write_time(file, std::filesystem::file_time_type::clock::now() - age);
}

TEST_CASE("a second holder is refused with host, process and start of the first") {
  const TemporaryFolder folder;
  auto first = std::make_unique<RunLock>(folder.path());
  std::string message;
  try {
    const RunLock second(folder.path());
  } catch (const UsageError& error) {
    message = error.what();
  }
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  INFO(message);
  CHECK(message.find("in use by pid " + std::to_string(::getpid()) + " on " + host) != std::string::npos);
  CHECK(std::regex_search(message, std::regex("since 20\\d\\d-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ")));
  CHECK_NOTHROW(first->require_held());
  first.reset();
  CHECK(files_in(folder.path()) == 0);  // the lock is released, and no temporary file is left
  CHECK_NOTHROW(RunLock(folder.path()));
}

TEST_CASE("the lock of a killed process of this host is taken over, which is logged") {
  const TemporaryFolder folder;
  const int status = wait_for(start_child([&] {
    const RunLock lock(folder.path());
    std::raise(SIGKILL);
  }));
  REQUIRE(WIFSIGNALED(status));
  REQUIRE(std::filesystem::exists(folder / "run.lock"));
  std::string said;
  const RunLock lock(folder.path(), {.log = [&](const std::string& text) { said += text; }});
  INFO(said);
  CHECK(said.find("taken over from pid ") != std::string::npos);
  CHECK(said.find("that process has ended") != std::string::npos);
  CHECK_NOTHROW(lock.require_held());
  CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("a process that has the id of the dead holder does not hold its lock") {
  const TemporaryFolder folder;
  std::string text;
  {
    const RunLock lock(folder.path());
    text = read(folder / "run.lock");
  }
  // The same process id, but of a process that started at another time.
  folder.write("run.lock",
               std::regex_replace(text, std::regex("\"process_start\":\"\\d+\""), "\"process_start\":\"1\""));
  CHECK_NOTHROW(RunLock(folder.path()));
}

TEST_CASE("a lock of another host is held until its last heartbeat has expired") {
  const TemporaryFolder folder;
  write_foreign_lock(folder, 2s);
  expect_error<UsageError>("pid 4242 on node7, since 2026-11-28T05:00:00Z, last heartbeat 2 s ago",
                           [&] { RunLock(folder.path()); });
  write_foreign_lock(folder, 61s);
  std::string said;
  const RunLock lock(folder.path(), {.log = [&](const std::string& text) { said += text; }});
  CHECK(said.find("taken over from pid 4242 on node7") != std::string::npos);
  CHECK(said.find("no heartbeat for 61 s, limit 60 s") != std::string::npos);
}

TEST_CASE("a new job waits for a silent holder of another host until its lock has expired") {
  const TemporaryFolder folder;
  write_foreign_lock(folder, 1s);
  std::string said;
  const RunLock lock(
      folder.path(),
      {.heartbeat = 100ms, .expiry = 1500ms, .log = [&](const std::string& text) { said += text + "\n"; }});
  INFO(said);
  CHECK(said.find("waiting for its next heartbeat") < said.find("taken over from pid 4242"));
}

TEST_CASE(
    "a silent holder of another host is distinguished from one with heartbeats and from one of this host") {
  const RunLockOptions fast{.heartbeat = 50ms};
  const TemporaryFolder folder;
  CHECK_FALSE(holder_falls_silent(folder.path(), {}, fast));  // no lock
  write_foreign_lock(folder, 0s);
  CHECK(holder_falls_silent(folder.path(), {}, fast));
  CHECK_FALSE(holder_falls_silent(
      folder.path(), [] { return true; }, fast));
  std::thread beats([&] {
    for (int i = 0; i < 6; ++i) {
      std::this_thread::sleep_for(30ms);
      std::filesystem::last_write_time(folder / "run.lock", std::filesystem::file_time_type::clock::now());
    }
  });
  CHECK_FALSE(holder_falls_silent(folder.path(), {}, fast));
  beats.join();
  std::filesystem::remove(folder / "run.lock");
  const RunLock here(folder.path());
  CHECK_FALSE(holder_falls_silent(folder.path(), {}, fast));
}

TEST_CASE("a holder renews its lock, so that it never expires") {
  const TemporaryFolder folder;
  const RunLock lock(folder.path(), {.heartbeat = 20ms});
  const auto before = std::filesystem::last_write_time(folder / "run.lock");
  for (int i = 0; i < 100 && std::filesystem::last_write_time(folder / "run.lock") == before; ++i)
    std::this_thread::sleep_for(10ms);
  CHECK(std::filesystem::last_write_time(folder / "run.lock") > before);
}

TEST_CASE("a holder whose lock was taken over gets an error and leaves the new lock alone") {
  const TemporaryFolder folder;
  {
    const RunLock lock(folder.path(), {.heartbeat = 10ms});
    std::filesystem::remove(folder / "run.lock");
    write_foreign_lock(folder, 0s);
    expect_error<DataError>("pid 4242 on node7, since 2026-11-28T05:00:00Z has taken over the run",
                            [&] { lock.require_held(); });
  }
  CHECK(std::filesystem::exists(folder / "run.lock"));
}

TEST_CASE("a lock file that is empty or not JSON expires by its age") {
  const TemporaryFolder folder;
  for (const char* text : {"", "{", "[]", R"({"id":"../x"})"}) {
    const auto file = folder.write("run.lock", text);
    expect_error<UsageError>("an unknown job (its lock file is unreadable)", [&] { RunLock(folder.path()); });
    std::filesystem::last_write_time(file, std::filesystem::file_time_type::clock::now() - 2min);
    CHECK_NOTHROW(RunLock(folder.path()));
    CHECK(files_in(folder.path()) == 0);
  }
}

TEST_CASE("of many processes that find a stale lock exactly one holds it") {
  const int takers = 6;
  for (int round = 0; round < 20; ++round) {
    const TemporaryFolder folder;
    write_foreign_lock(folder, 2min);
    // In every second round a process has died during a takeover of the lock.
    if (round % 2 == 1) {
      std::filesystem::copy(folder / "run.lock", folder / "run.lock.00aa");
      std::filesystem::last_write_time(folder / "run.lock.00aa",
                                       std::filesystem::file_time_type::clock::now() - 2min);
    }
    ProcessBarrier barrier(takers);
    std::vector<pid_t> children;
    for (int i = 0; i < takers; ++i)
      children.push_back(start_child([&] {
        barrier.wait();
        std::unique_ptr<RunLock> lock;
        try {
          lock = std::make_unique<RunLock>(folder.path());
        } catch (const UsageError&) {
        }
        barrier.wait();  // all processes have tried while the winner holds the lock
        if (!lock) ::_exit(7);
        lock->require_held();
      }));
    int winners = 0, refused = 0;
    for (const pid_t child : children) {
      const int status = wait_for(child);
      winners += WIFEXITED(status) && WEXITSTATUS(status) == 0;
      refused += WIFEXITED(status) && WEXITSTATUS(status) == 7;
    }
    CHECK(winners == 1);
    CHECK(refused == takers - 1);
  }
}

TEST_CASE("a folder that cannot be written is an error that names it") {
  expect_error<DataError>("run.lock: cannot be written: No such file", [] { RunLock("/nowhere/at/all"); });
}

}  // namespace
}  // namespace foretoken
