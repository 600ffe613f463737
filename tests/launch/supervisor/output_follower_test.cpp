// The supervisor's copy of the ranks' output.
#include "launch/supervisor/output_follower.h"

#include <fcntl.h>
#include <fstream>
#include <unistd.h>

#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;

namespace {

/// Captures the follower's output through a pipe that is not read before the end.
class CapturedStdout {
 public:
  CapturedStdout() : original_(dup(STDOUT_FILENO)) {
    REQUIRE(pipe(ends_) == 0);
    dup2(ends_[1], STDOUT_FILENO);
  }
  ~CapturedStdout() {
    end();
    close(ends_[0]);
  }
  std::string text() {
    end();
    std::string text;
    char block[4096];
    for (ssize_t count = 0; (count = read(ends_[0], block, sizeof block)) > 0;)
      text.append(block, static_cast<std::size_t>(count));
    return text;
  }

 private:
  void end() {
    if (original_ < 0) return;
    dup2(original_, STDOUT_FILENO);
    close(original_);
    close(ends_[1]);
    original_ = -1;
  }
  int original_;
  int ends_[2] = {-1, -1};
};

}  // namespace

TEST_CASE(
    "output is copied completely and without control characters, also if a read ends inside a character") {
  const TemporaryFolder folder;
  const auto path = folder.write("log", "");
  std::string long_line(5000, 'x');
  long_line[4095] = '\xE2';  // the first block that is read ends inside this character
  long_line.replace(4096, 2, "\x80\x93");
  std::string text;
  {
    CapturedStdout captured;
    OutputFollower follower(path.string());
    std::ofstream log(path, std::ios::app);
    log << "a\x1b[31mb\tc\nloss \xE2" << std::flush;
    follower.copy();
    log << "\x80\x93\n" << long_line << "\nno end" << std::flush;
    CHECK(follower.copy());
    text = captured.text();
  }
  CHECK(text == "a\\x1b[31mb\tc\nloss \xE2\x80\x93\n" + long_line + "\nno end");
}
