// Text that the program did not write: how it is printed, and how text files are read.
#include "io/files/printable.h"

#include <sys/stat.h>

#include "io/files/text_file.h"
#include "io/files/utf8.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;

TEST_CASE("no control character survives in printable text") {
  CHECK(printable("a\x1b[31mb\x07\x7f") == "a\\x1b[31mb\\x07\\x7f");
  CHECK(printable("a\nb\tc\r") == "a\\nb\\tc\\r");
  CHECK(printable(std::string_view("\0", 1)) == "\\x00");
  CHECK(printable("\xc2\x9b"
                  "31m") == "\\u009b31m");  // the one-byte form of ESC [
  CHECK(printable("\xe2\x80\xaetxt.exe") == "\\u202etxt.exe");
  CHECK(printable("\x9b\xff\xe2\x80") == "\\x9b\\xff\\xe2\\x80");
  CHECK(printable("Übung – 模型 🙂 C:\\x") == "Übung – 模型 🙂 C:\\x");
  CHECK(printable_lines("a\x1b\n\tb\r") == "a\\x1b\n\tb\\r");
  for (int byte = 0; byte < 256; ++byte)
    for (const char shown : printable(std::string(1, static_cast<char>(byte))))
      CHECK((shown >= ' ' && shown <= '~'));
}

TEST_CASE("UTF-8 is decoded as the Unicode standard defines it") {
  CHECK(first_character("\xf0\x9f\x99\x82").code == U'🙂');
  CHECK(first_character("\xc3\xa4").code == U'ä');
  for (const char* broken : {"\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\x80"})
    CHECK(first_character(broken).state == Utf8Character::broken);
  CHECK(first_character("\xf0\x9f\x99").state == Utf8Character::unfinished);
  CHECK(first_character("\xf0\x9f\x99").bytes == 3);
}

TEST_CASE("only regular files up to a size limit are read as text") {
  const TemporaryFolder folder;
  CHECK(read_text_file(folder.write("a.txt", "text\n"), 5) == "text\n");
  expect_error<DataError>("has 5 bytes, expected at most 4", [&] { read_text_file(folder / "a.txt", 4); });
  expect_error<DataError>("there is no such file", [&] { read_text_file(folder / "b.txt", 4); });
  expect_error<DataError>("is a folder, expected a file", [&] { read_text_file(folder.path(), 4); });
  expect_error<DataError>("is a device, expected a file", [&] { read_text_file("/dev/zero", 4); });
  REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  expect_error<DataError>("is a pipe, expected a file", [&] { read_text_file(folder / "pipe", 4); });
}
