// TensorBoard event files, byte by byte. tests/system/metrics_readers.py reads them with TensorBoard itself.
#include "io/report/tensorboard.h"

#include <bit>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/resource.h>

#include "io/files/crc32c.h"
#include "io/report/metrics.h"
#include "io/report/metrics_json.h"
#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/example_metrics.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;
using foretoken::testing::example_step;
namespace fs = std::filesystem;

namespace {

const auto no_warning = [](const std::string& text) { FAIL("warned: " << text); };

std::vector<fs::path> event_files(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

/// The messages of a file; checks the lengths and their checksums.
std::vector<std::string> events_of(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  const std::string bytes = text.str();
  const auto masked = [](std::string_view of) {
    const std::uint32_t crc = crc32c(of);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8;
  };
  const auto at = [&](std::size_t offset) {
    std::uint32_t value = 0;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
  };
  std::vector<std::string> events;
  for (std::size_t offset = 0; offset < bytes.size();) {
    REQUIRE(offset + 16 <= bytes.size());
    const std::size_t length = at(offset);
    CHECK(at(offset + 8) == masked(std::string_view(bytes).substr(offset, 8)));
    REQUIRE(offset + 16 + length <= bytes.size());
    events.push_back(bytes.substr(offset + 12, length));
    CHECK(at(offset + 12 + length) == masked(events.back()));
    offset += 16 + length;
  }
  return events;
}

}  // namespace

TEST_CASE("CRC-32C agrees with the examples of RFC 3720") {
  CHECK(crc32c("") == 0);
  CHECK(crc32c("123456789") == 0xe3069283);
  CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aa);
  CHECK(crc32c(std::string(32, '\xff')) == 0x62a8ab43);
}

TEST_CASE("numbers of metrics have tags that group depths and evaluations") {
  CHECK(tensorboard_tag("step", "loss") == "loss/objective");
  CHECK(tensorboard_tag("step", "main_loss") == "loss/main");
  CHECK(tensorboard_tag("step", "mtp12_acceptance") == "acceptance/mtp12");
  CHECK(tensorboard_tag("step", "tokens_per_second") == "tokens_per_second");
  CHECK(tensorboard_tag("evaluation", "mtp1_loss") == "evaluation/loss/mtp1");
  CHECK(tensorboard_tag("evaluation", "bits_per_byte") == "evaluation/bits_per_byte");
  for (const char* name : {"kind", "step", "time", "branch", "check", "mtp1_loss_text"})
    CHECK(tensorboard_tag("step", name).empty());
}

TEST_CASE("an event file starts with its version and the first step of its launch, and holds scalars") {
  const TemporaryFolder folder;
  TensorboardSink(folder / "tb", folder / "metrics.jsonl", 121, no_warning)
      .write(json_of(example_step(300)), 2.5);
  const auto files = event_files(folder / "tb");
  REQUIRE(files.size() == 1);
  const std::vector<std::string> events = events_of(files[0]);
  REQUIRE(events.size() == 3);
  const std::string version(
      "\x10\x00\x1a\x0d"
      "brain.Event:2",
      17);  // after the time
  CHECK(events[0].substr(9) == version);
  CHECK(events[1].substr(9) == std::string("\x10\x00\x3a\x02\x08\x01", 6));  // a folder without files: step 0
  CHECK(events[2].substr(0, 12) == std::string("\x09\x00\x00\x00\x00\x00\x00\x04\x40\x10\xac\x02", 12));
  const float loss = 2.1F;
  std::string value(sizeof loss, '\0');
  std::memcpy(value.data(), &loss, sizeof loss);
  CHECK_THAT(events[2], foretoken::testing::contains("\x0a\x09loss/main\x15" + value));
}

TEST_CASE("a later launch writes a later file that replaces steps and repeats those that returned") {
  const TemporaryFolder folder;
  const fs::path history = folder / "metrics.jsonl";
  {
    MetricsSink lines(history.string(), no_warning);
    for (const int step : {1, 2, 3}) lines.write(example_step(step));
  }
  TensorboardSink(folder / "tb", history, 4, no_warning).write(json_of(example_step(4)), 1);
  CHECK(events_of(event_files(folder / "tb")[0]).size() == 2 + 4);  // the whole history first
  TensorboardSink(folder / "tb", history, 3, no_warning).write(json_of(example_step(4)), 1);
  const auto files = event_files(folder / "tb");
  REQUIRE(files.size() == 2);
  const std::vector<std::string> events = events_of(files[1]);
  REQUIRE(events.size() == 2 + 2);
  CHECK(events[1].substr(9) == std::string("\x10\x03\x3a\x02\x08\x01", 6));
}

TEST_CASE("a folder of event files that cannot be opened is an error") {
  const TemporaryFolder folder;
  std::ofstream(folder / "tb") << "a file, not a folder";
  CHECK_THROWS_AS(TensorboardSink(folder / "tb", folder / "metrics.jsonl", 0, no_warning), DataError);
}

TEST_CASE("event files recover when the disk has room again, and hold no part of an event") {
  const TemporaryFolder folder;
  int warnings = 0;
  TensorboardSink sink(folder / "tb", folder / "metrics.jsonl", 0, [&](const std::string&) { ++warnings; });
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit tight = before;
  tight.rlim_cur = 100;  // bytes, so the first event does not fit
  REQUIRE(setrlimit(RLIMIT_FSIZE, &tight) == 0);
  for (int step : {1, 2}) sink.write(json_of(example_step(step)), 1);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
  std::signal(SIGXFSZ, old_handler);
  sink.write(json_of(example_step(3)), 1);
  CHECK(warnings == 1);
  CHECK(events_of(event_files(folder / "tb")[0]).size() == 2 + 1);
}
