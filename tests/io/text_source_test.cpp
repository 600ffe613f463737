#include "io/datasets/text_source.h"

#include <algorithm>
#include <sys/stat.h>

#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

namespace foretoken {
namespace {

struct Read {
  std::vector<std::string> names;
  std::vector<std::string> texts;
  std::vector<std::string> reports;
  TextSource::Skipped skipped;
  std::int64_t total = 0;
  std::int64_t done = 0;
  std::size_t longest_piece = 0;
};

Read read_all(const std::vector<std::filesystem::path>& paths) {
  Read read;
  TextSource source(paths, [&](const std::string& message) { read.reports.push_back(message); });
  while (source.next_document()) {
    read.names.push_back(source.document_path().filename().string());
    read.texts.emplace_back();
    for (std::string_view piece = source.next_piece(); !piece.empty(); piece = source.next_piece()) {
      read.texts.back() += piece;
      read.longest_piece = std::max(read.longest_piece, piece.size());
    }
  }
  read.skipped = source.skipped();
  read.total = source.total_bytes();
  read.done = source.done_bytes();
  return read;
}

TEST_CASE("text is read folder by folder in the order of names, whatever the order of creation") {
  const TemporaryFolder folder;
  folder.write("in/b.txt", "B");
  folder.write("in/c/z.txt", "CZ");
  folder.write("in/c/a/q.txt", "CAQ");
  folder.write("in/a.txt", "A");
  folder.write("in/.hidden", "H");
  folder.write("first.txt", "F");
  const Read read = read_all({folder / "first.txt", folder / "in"});
  REQUIRE(read.names == std::vector<std::string>{"first.txt", ".hidden", "a.txt", "b.txt", "q.txt", "z.txt"});
  REQUIRE(read.texts == std::vector<std::string>{"F", "H", "A", "B", "CAQ", "CZ"});
  REQUIRE(read.total == 9);
  REQUIRE(read.done == 9);
  REQUIRE(read.reports.empty());
}

TEST_CASE("binary, empty and unreadable files are skipped and counted") {
  const TemporaryFolder folder;
  folder.write("binary", std::string(8191, 'x') + '\0' + "tail");
  folder.write("late_nul", std::string(8192, 'x') + '\0');
  folder.write("empty", "");
  folder.write("text", "hello");
  std::filesystem::create_symlink("nowhere", folder / "dangling");
  REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  const Read read = read_all({folder.path()});
  REQUIRE(read.names == std::vector<std::string>{"late_nul", "text"});
  REQUIRE(read.skipped.binary == 1);
  REQUIRE(read.skipped.empty == 1);
  REQUIRE(read.skipped.unreadable == 2);
  REQUIRE(read.reports.size() == 2);
  REQUIRE(read.reports[0].find("dangling: No such file") != std::string::npos);
  REQUIRE(read.reports[1].find("pipe: is not a regular file") != std::string::npos);
  REQUIRE(read.done == read.total);
}

TEST_CASE("files and folders reached twice are read once, and link cycles end") {
  const TemporaryFolder folder;
  folder.write("in/real.txt", "R");
  folder.write("elsewhere/far.txt", "F");
  std::filesystem::create_symlink("real.txt", folder / "in/link.txt");
  std::filesystem::create_directory_symlink("..", folder / "in/up");
  std::filesystem::create_directory_symlink(folder / "in", folder / "in/self");
  std::filesystem::create_hard_link(folder / "in/real.txt", folder / "in/zhard.txt");
  const Read read = read_all({folder / "in", folder / "in/real.txt"});
  REQUIRE(read.names == std::vector<std::string>{"link.txt", "far.txt"});
  REQUIRE(read.skipped.repeated == 3);
}

TEST_CASE("a file larger than the buffer is read completely, in bounded pieces") {
  const TemporaryFolder folder;
  std::string text;
  while (text.size() < (5 << 19) + 17) text += fmt::format("{} ", text.size());
  folder.write("long", text);
  folder.write("short", "s");
  const Read read = read_all({folder.path()});
  REQUIRE(read.texts == std::vector<std::string>{text, "s"});
  REQUIRE(read.longest_piece <= 1 << 20);
}

TEST_CASE("a file that changes after it was listed is read as it is then") {
  const TemporaryFolder folder;
  folder.write("a", "longer");
  folder.write("b", "short");
  folder.write("c", "gone");
  folder.write("d", "d");
  std::vector<std::string> reports;
  const std::vector<std::filesystem::path> paths{folder.path()};
  TextSource source(paths, [&](const std::string& message) { reports.push_back(message); });
  folder.write("a", "");
  folder.write("b", "shorter no more");
  std::filesystem::remove(folder / "c");
  REQUIRE(source.next_document());
  REQUIRE(source.next_piece() == "shorter no more");
  REQUIRE(source.next_piece().empty());
  REQUIRE(source.next_document());
  REQUIRE(source.next_piece() == "d");
  REQUIRE_FALSE(source.next_document());
  REQUIRE(source.skipped().empty == 1);
  REQUIRE(reports.size() == 1);
  REQUIRE(source.done_bytes() == source.total_bytes());
}

TEST_CASE("a named path that does not exist is a data error") {
  const TemporaryFolder folder;
  folder.write("a", "A");
  expect_error<DataError>("none: No such file or directory", [&] {
    read_all({folder / "a", folder / "none"});
  });
}

}  // namespace
}  // namespace foretoken
