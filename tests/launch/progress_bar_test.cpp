#include "launch/console/progress_bar.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace foretoken {
namespace {

TEST_CASE("a progress line shows done, total, rate and time left") {
  REQUIRE(progress_line("tokenize", 1'200'000'000, 4'000'000'000, 4, 110) ==
          "tokenize  [#########---------------------]   30 %  1.2 GB of 4.0 GB  300 MB/s  0:09 left");
  REQUIRE(progress_line("tokenize", 4'000, 4'000, 2, 110) ==
          "tokenize  [##############################]  100 %  4.0 kB of 4.0 kB  2.0 kB/s");
}

TEST_CASE("on a narrow terminal a progress line loses its bar and nothing else") {
  REQUIRE(progress_line("tokenize", 1'000, 10'000, 1, 69) ==
          "tokenize  [#---------]   10 %  1.0 kB of 10.0 kB  1.0 kB/s  0:09 left");
  REQUIRE(progress_line("tokenize", 1'000, 10'000, 1, 30) ==
          "tokenize   10 %  1.0 kB of 10.0 kB  1.0 kB/s  0:09 left");
}

TEST_CASE("a progress line is valid without a rate and for no work") {
  REQUIRE(progress_line("tokenize", 0, 500, 0, 30) == "tokenize    0 %  0 B of 500 B");
  REQUIRE(progress_line("tokenize", 0, 0, 1, 30) == "tokenize  100 %  0 B of 0 B");
  REQUIRE(progress_line("tokenize", 700, 500, 0, 30) == "tokenize  100 %  700 B of 500 B");
}

TEST_CASE("sizes are printed with a unit and few digits") {
  REQUIRE(format_bytes(0) == "0 B");
  REQUIRE(format_bytes(999) == "999 B");
  REQUIRE(format_bytes(1000) == "1.0 kB");
  REQUIRE(format_bytes(99'949) == "99.9 kB");
  REQUIRE(format_bytes(99'960) == "100 kB");
  REQUIRE(format_bytes(999'600) == "1.0 MB");
  REQUIRE(format_bytes(2.5e15) == "2.5 PB");
}

TEST_CASE("without a terminal, progress is one line at each tenth") {
  const TemporaryFolder folder;
  std::FILE* out = std::fopen((folder / "log").c_str(), "w");
  {
    ProgressBar bar("tokenize", 1000, out);
    for (int done = 0; done <= 1000; ++done) bar.update(done);
    bar.finish();
  }
  std::fclose(out);
  std::ifstream in(folder / "log");
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  REQUIRE(std::count(text.begin(), text.end(), '\n') == 10);
  REQUIRE(text.find_first_of("\r\033") == std::string::npos);
  REQUIRE(text.find(" 100 %") != std::string::npos);
}

}  // namespace
}  // namespace foretoken
