// Durable files are complete or absent, also if several writers write the same file.
#include "io/files/durable_file.h"

#include <atomic>
#include <fcntl.h>
#include <fstream>
#include <sstream>
#include <sys/file.h>
#include <sys/resource.h>
#include <thread>
#include <vector>

#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/fault_injection.h"
#include "tests/support/temporary_folder.h"

namespace foretoken {
namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

void write(const fs::path& path, const std::string& text) {
  std::ofstream(path) << text;
}

TEST_CASE("a durable file replaces the old one and leaves nothing beside it") {
  const TemporaryFolder folder;
  write_durably(folder / "a", "one");
  write_durably(folder / "a", "the second");
  write_durably(folder / "empty", "");
  CHECK(read(folder / "a") == "the second");
  CHECK(read(folder / "empty").empty());
  CHECK(files_in(folder.path()) == 2);
}

TEST_CASE("a user's own files with the names of temporaries survive") {
  const TemporaryFolder folder;
  for (const char* name : {"d.h5.tmp", "d.h5.part", ".d.h5.tmp"}) folder.write(name, "mine");
  write_durably(folder / "d.h5", "text");
  {
    PendingFile pending(folder / "d.h5");
    write(pending.path(), "more");
    pending.publish();
  }
  { const PendingFile given_up(folder / "d.h5"); }
  CHECK(read(folder / "d.h5") == "more");
  for (const char* name : {"d.h5.tmp", "d.h5.part", ".d.h5.tmp"}) CHECK(read(folder / name) == "mine");
  CHECK(files_in(folder.path()) == 4);
}

TEST_CASE("two writers of one output publish a whole file each") {
  const TemporaryFolder folder;
  PendingFile first(folder / "d.h5"), second(folder / "d.h5");
  CHECK(first.path() != second.path());
  write(first.path(), "the first");
  write(second.path(), "the second");
  first.publish();
  CHECK(read(folder / "d.h5") == "the first");
  second.publish();
  CHECK(read(folder / "d.h5") == "the second");
  CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("many threads that write one file leave one complete text") {
  const TemporaryFolder folder;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      for (int round = 0; round < 5; ++round)
        write_durably(folder / "a", std::string(10'000, static_cast<char>('a' + i)));
    });
  for (std::thread& thread : threads) thread.join();
  const std::string text = read(folder / "a");
  CHECK(text == std::string(10'000, text.at(0)));
  CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("a writer does not use a temporary that another one is about to remove as abandoned") {
  const TemporaryFolder folder;
  std::atomic<bool> ended{false};
  std::thread remover([&] {  // as the next writer does, but slowly
    while (!ended)
      for (const auto& entry : fs::directory_iterator(folder.path())) {
        const int descriptor = ::open(entry.path().c_str(), O_RDWR);
        if (descriptor < 0) continue;
        if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) {
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
          ::unlink(entry.path().c_str());
        }
        ::close(descriptor);
      }
  });
  std::atomic<int> lost{0};
  std::vector<std::thread> writers;
  for (int i = 0; i < 4; ++i)
    writers.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        const PendingFile out(folder / "d.h5");
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        lost += !fs::exists(out.path());
      }
    });
  for (std::thread& writer : writers) writer.join();
  ended = true;
  remover.join();
  CHECK(lost == 0);
}

TEST_CASE("the next writer removes temporaries of a killed process, but not those of a running one") {
  const TemporaryFolder folder;
  const int status = wait_for(start_child([&] {
    const PendingFile pending(folder / "d.h5");
    write(pending.path(), "half");
    std::raise(SIGKILL);
  }));
  REQUIRE(WIFSIGNALED(status));
  REQUIRE(files_in(folder.path()) == 1);
  const PendingFile living(folder / "d.h5");
  CHECK(files_in(folder.path()) == 1);
  const PendingFile other(folder / "d.h5");
  CHECK(files_in(folder.path()) == 2);
  CHECK(fs::exists(living.path()));
}

TEST_CASE("a full disk is an error that names the cause, and the old file stays") {
  const TemporaryFolder folder;
  write_durably(folder / "a", "old");
  const int status = wait_for(start_child([&] {
    limit_file_size(100);
    expect_error<DataError>("a: cannot be written: File too large",
                            [&] { write_durably(folder / "a", std::string(1000, 'x')); });
  }));
  CHECK(status == 0);
  CHECK(read(folder / "a") == "old");
  CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("a folder or a device is never replaced by a file") {
  const TemporaryFolder folder;
  expect_error<DataError>("is a folder", [&] { write_durably(folder.path(), "x"); });
  expect_error<DataError>("is a device", [&] { write_durably("/dev/null", "x"); });
  expect_error<DataError>("is a device", [&] { PendingFile("/dev/null"); });
  expect_error<DataError>("No such file or directory", [&] { write_durably(folder / "none/a", "x"); });
  CHECK(fs::is_character_file("/dev/null"));
}

TEST_CASE("the file that a link names is replaced, not the link") {
  const TemporaryFolder folder;
  folder.write("far/real", "old");
  fs::create_symlink("far/real", folder / "link");
  write_durably(folder / "link", "new");
  CHECK(fs::is_symlink(folder / "link"));
  CHECK(read(folder / "far/real") == "new");
}

TEST_CASE("the longest name that a file may have can be written") {
  const TemporaryFolder folder;
  const std::string name(255, 'n');
  write_durably(folder / name, "x");
  CHECK(read(folder / name) == "x");
}

TEST_CASE("an appended line is complete or absent, and starts at the beginning of a line") {
  const TemporaryFolder folder;
  folder.write("log", "torn by a ki");
  const int status = wait_for(start_child([&] {
    AppendedFile file(folder / "log");
    file.append("first");
    limit_file_size(30);
    expect_error<DataError>("log: cannot be written: File too large",
                            [&] { file.append(std::string(1000, 'x')); });
    file.append("second");
    file.sync();
  }));
  CHECK(status == 0);
  CHECK(read(folder / "log") == "torn by a ki\nfirst\nsecond\n");
}

}  // namespace
}  // namespace foretoken
