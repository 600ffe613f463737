// Metrics: an evaluation's table, the JSON lines, and what a resume does to them.
#include "io/report/metrics.h"

#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <sys/resource.h>
#include <sys/stat.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/example_metrics.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;
using foretoken::testing::example_step;

namespace {

const auto no_warning = [](const std::string& text) { FAIL("warned: " << text); };

std::string read(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::vector<nlohmann::json> lines_of(const std::filesystem::path& path) {
  std::vector<nlohmann::json> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

StepMetrics diagnosed() {
  StepMetrics metrics = example_step(120);
  metrics.weights = {1, 0.3, 0.1};
  metrics.heads = HeadsMetrics{.acceptance = {0.41, 0.2},
                               .accepted_length = 1.61,
                               .trunk_norms = {0.04, 0.01, 0.02},
                               .trunk_cosines = {0.12, -0.3}};
  return metrics;
}

}  // namespace

TEST_CASE("an evaluation is printed as a table") {
  EvaluationMetrics metrics{.step = 120,
                            .loss = 2.5,
                            .depth_losses = {std::log(4), std::log(6), std::log(300)},
                            .rows = 64,
                            .tokens = 1000,
                            .bytes = 800,
                            .milliseconds = 182};
  CHECK(*metrics.bits_per_byte() == Approx(2.5));  // 2 bits a token, 1.25 tokens a byte
  metrics.heads = HeadsMetrics{.acceptance = {0.5, std::numeric_limits<double>::quiet_NaN()},
                               .accepted_length = 1.5,
                               .trunk_norms = {},
                               .trunk_cosines = {}};
  metrics.free_running = FreeRunningMetrics{.prompts = 8,
                                            .tokens = 512,
                                            .rounds = 300,
                                            .acceptance = {0.45, 0.2},
                                            .acceptance_rate = 0.325,
                                            .accepted_length = 1.65};
  CHECK("\n" + table(metrics) == R"(
                             acceptance of drafts
depth     loss  perplexity   teacher-forced  free-running
main    1.3863       4.000
mtp1    1.7918       6.000            0.500         0.450
mtp2    5.7038     300.000                -         0.200
tokens a round                        1.500         1.650

bits/byte  2.5000
text       64 rows, 1000 tokens of 800 bytes; objective 2.5000; 182 ms
drafts     300 rounds over 512 tokens after 8 prompts, acceptance rate 0.325)");
  metrics.heads.reset();
  metrics.free_running.reset();
  metrics.depth_losses.resize(1);
  metrics.bytes = 0;
  CHECK("\n" + table(metrics) == R"(
depth     loss  perplexity
main    1.3863       4.000

bits/byte  unknown for this tokenizer
text       64 rows, 1000 tokens; objective 2.5000; 182 ms)");
}

TEST_CASE("durations are printed in the two largest units") {
  CHECK(duration_in_words(0) == "0s");
  CHECK(duration_in_words(59.6) == "1m 00s");
  CHECK(duration_in_words(200) == "3m 20s");
  CHECK(duration_in_words(7500) == "2h 05m");
  CHECK(duration_in_words(356400) == "4d 03h");
  CHECK(duration_in_words(std::numeric_limits<double>::quiet_NaN()) == "?");
  CHECK(duration_in_words(std::numeric_limits<double>::infinity()) == "?");
  CHECK(duration_in_words(-1) == "?");
}

TEST_CASE("a step becomes one line of JSON") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "metrics.jsonl";
  MetricsSink sink(path.string(), no_warning);
  sink.write(example_step(120));
  sink.write(
      EvaluationMetrics{.step = 120, .loss = 2.5, .depth_losses = {2.1, 2.4}, .rows = 64, .milliseconds = 9});
  sink.write(diagnosed());
  sink.write(EvaluationMetrics{.depth_losses = {std::log(4), 2},
                               .tokens = 1000,
                               .bytes = 800,
                               .free_running = FreeRunningMetrics{.prompts = 8,
                                                                  .tokens = 512,
                                                                  .rounds = 300,
                                                                  .acceptance = {0.45},
                                                                  .acceptance_rate = 0.5,
                                                                  .accepted_length = 1.45}});
  const auto lines = lines_of(path);  // the sink is still open: its lines are already flushed
  REQUIRE(lines.size() == 4);
  CHECK_FALSE(lines[0].contains("accepted_length"));
  CHECK(lines[2]["mtp2_weight"] == 0.1);
  CHECK(lines[2]["mtp1_acceptance"] == 0.41);
  CHECK(lines[2]["accepted_length"] == 1.61);
  CHECK(lines[2]["main_trunk_norm"] == 0.04);
  CHECK(lines[2]["mtp2_trunk_norm"] == 0.02);
  CHECK(lines[2]["mtp2_trunk_cosine"] == -0.3);
  CHECK(lines[0]["kind"] == "step");
  CHECK(lines[0]["step"] == 120);
  CHECK(lines[0]["loss"] == 2.34564);
  CHECK(lines[0]["main_loss"] == 2.1);
  CHECK(lines[0]["mtp2_loss"] == 2.62);
  CHECK(lines[0]["tokens_seen"] == 245760);
  CHECK(lines[1]["kind"] == "evaluation");
  CHECK(lines[1]["rows"] == 64);
  CHECK_FALSE(lines[1].contains("bits_per_byte"));
  CHECK_FALSE(lines[1].contains("free_rounds"));
  CHECK(lines[3]["main_perplexity"].get<double>() == Approx(4));
  CHECK(lines[3]["mtp1_perplexity"] == std::exp(2.0));
  CHECK(lines[3]["bits_per_byte"].get<double>() == Approx(2.5));
  CHECK(lines[3]["free_tokens"] == 512);
  CHECK(lines[3]["free_mtp1_acceptance"] == 0.45);
  CHECK(lines[3]["free_accepted_length"] == 1.45);
}

TEST_CASE("numbers that are not finite are valid JSON and read back as such") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "metrics.jsonl";
  StepMetrics metrics = example_step(120);
  metrics.loss = std::numeric_limits<double>::quiet_NaN();
  metrics.grad_norm = std::numeric_limits<double>::infinity();
  metrics.depth_losses[1] = -std::numeric_limits<double>::infinity();
  MetricsSink(path.string(), no_warning).write(metrics);
  const auto line = lines_of(path).at(0);
  CHECK(line["loss"].is_null());
  CHECK(line["loss_text"] == "nan");
  CHECK(line["grad_norm"].is_null());
  CHECK(line["grad_norm_text"] == "inf");
  CHECK(line["mtp1_loss"].is_null());
  CHECK(line["mtp1_loss_text"] == "-inf");
  CHECK_FALSE(line.contains("lr_text"));
}

TEST_CASE("a sink appends to the lines of an earlier one") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "metrics.jsonl";
  MetricsSink(path.string(), no_warning).write(example_step(120));
  MetricsSink(path.string(), no_warning).write(example_step(120));
  CHECK(lines_of(path).size() == 2);
}

TEST_CASE("metrics that cannot be written cause one warning and no error") {
  int warnings = 0;
  MetricsSink sink("/dev/full", [&](const std::string& text) {
    ++warnings;
    CHECK(text.find("/dev/full: cannot be written: No space left on device") != std::string::npos);
  });
  for (int step = 0; step < 3; ++step) CHECK_NOTHROW(sink.write(example_step(120)));
  CHECK(warnings == 1);
}

TEST_CASE("metrics recover when the disk has room again") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "metrics.jsonl";
  int warnings = 0;
  MetricsSink sink(path.string(), [&](const std::string&) { ++warnings; });
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit tight = before;
  tight.rlim_cur = 100;  // bytes, so the first line does not fit
  REQUIRE(setrlimit(RLIMIT_FSIZE, &tight) == 0);
  sink.write(example_step(120));
  REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
  std::signal(SIGXFSZ, old_handler);
  sink.write(example_step(120));
  CHECK(warnings == 1);
  REQUIRE(lines_of(path).size() == 1);  // no part of the line that did not fit
  CHECK(lines_of(path)[0]["step"] == 120);
}

TEST_CASE("lines that cannot be moved away cause an error and stay in the file") {
  const TemporaryFolder folder;
  const std::string text = "{\"step\":1}\n{\"step\":2}\n";
  folder.write("metrics.jsonl", text);
  std::filesystem::create_symlink("/dev/full", folder / "metrics.jsonl.superseded");
  expect_error<DataError>("metrics.jsonl.superseded: cannot be written: No space left on device",
                          [&] { truncate_metrics((folder / "metrics.jsonl").string(), {}, 1); });
  CHECK(read(folder / "metrics.jsonl") == text);
  CHECK(files_in(folder.path()) == 2);
}

TEST_CASE("a metrics file that cannot be opened is an error") {
  CHECK_THROWS_AS(MetricsSink("/nowhere/metrics.jsonl", no_warning), DataError);
}

TEST_CASE("resuming moves the lines of later steps away and loses none") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "metrics.jsonl";
  const std::string kept = "{\"step\":1}\n{\"step\":2}\n{\"kind\":\"evaluation\",\"step\":2}\n";
  const std::string later = "{\"step\":3}\n{\"step\":4}\n";
  folder.write("metrics.jsonl", kept + later);
  CHECK(truncate_metrics(path.string(), {}, 2).superseded == 2);
  CHECK(read(path) == kept);
  CHECK(read(folder / "metrics.jsonl.superseded") == later);

  folder.write("metrics.jsonl", kept + "{\"step\":3,\"again\":1}\n");
  CHECK(truncate_metrics(path.string(), {}, 2).superseded == 1);
  CHECK(read(path) == kept);
  CHECK(read(folder / "metrics.jsonl.superseded") == later + "{\"step\":3,\"again\":1}\n");
  CHECK_FALSE(std::filesystem::exists(folder / "metrics.jsonl.damaged"));
}

TEST_CASE("resuming moves torn and damaged lines away, names the first, and uses none of them") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "metrics.jsonl";
  {
    MetricsSink sink(path.string(), no_warning);
    sink.write(example_step(120));
    sink.write(example_step(120));
  }
  std::string text = read(path);
  const std::string whole = text.substr(0, text.find('\n') + 1);
  const std::size_t digit = text.find("\"loss\":", whole.size()) + 9;
  text[digit] = static_cast<char>(text[digit] ^ 1);  // another digit, so the line is still valid JSON
  const std::string damaged = text.substr(whole.size());
  folder.write("metrics.jsonl", text + whole.substr(0, whole.size() - 1));
  folder.write("metrics.jsonl.superseded", damaged);
  const TruncatedMetrics moved = truncate_metrics(path.string(), {}, 1000);
  CHECK(moved.superseded == 0);
  CHECK(moved.damaged == 2);
  CHECK_THAT(moved.first_damage, foretoken::testing::contains("metrics.jsonl:2: digest differs (check "));
  CHECK(read(path) == whole);
  CHECK(read(folder / "metrics.jsonl.damaged") == damaged + whole);
}

TEST_CASE("resuming from the last step changes no line") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "metrics.jsonl";
  CHECK(truncate_metrics(path.string(), {}, 5).superseded == 0);
  CHECK_FALSE(std::filesystem::exists(path));
  folder.write("metrics.jsonl", "{\"step\":1}\n");
  CHECK(truncate_metrics(path.string(), {}, 1).superseded == 0);
  CHECK(read(path) == "{\"step\":1}\n");
  CHECK_FALSE(std::filesystem::exists(folder / "metrics.jsonl.superseded"));
  CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("metrics of a run that goes back and returns are the lines of its current branch each time") {
  const TemporaryFolder folder;
  const std::string path = (folder / "metrics.jsonl").string();
  const auto line = [](int step, int branch, const char* kind = "step") {
    return fmt::format(R"({{"kind":"{}","step":{},"branch":{}}})", kind, step, branch) + "\n";
  };
  const std::string first = R"({"kind":"step","step":1})"
                            "\n";
  folder.write("metrics.jsonl", first + line(2, 1) + line(3, 1) + line(3, 1, "evaluation"));
  const Lineage second{.branch = 2, .ancestors = {{.branch = 1, .until = 1}}};
  CHECK(truncate_metrics(path, second, 1).superseded == 3);
  CHECK(read(path) == first);

  std::ofstream(path, std::ios::app) << line(2, 2) << line(3, 2);
  CHECK(truncate_metrics(path, second, 3).superseded ==
        0);  // resumed after a kill: no line of branch 1 returns
  CHECK(read(path) == first + line(2, 2) + line(3, 2));

  const Lineage third{.branch = 3, .ancestors = {{.branch = 1, .until = 3}}};
  CHECK(truncate_metrics(path, third, 3).superseded == 2);
  CHECK(read(path) == first + line(2, 1) + line(3, 1) + line(3, 1, "evaluation"));
  CHECK(truncate_metrics(path, third, 3).superseded == 0);
  CHECK(read(path) == first + line(2, 1) + line(3, 1) + line(3, 1, "evaluation"));
  CHECK(read(path + ".superseded").find(line(2, 2)) != std::string::npos);
}

TEST_CASE("a metrics file that is a pipe is refused without blocking, and deep nesting counts as damage") {
  const TemporaryFolder folder;
  const std::filesystem::path pipe = folder / "pipe", deep = folder / "deep";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  expect_error<DataError>("is a pipe, expected a file", [&] { truncate_metrics(pipe.string(), {}, 1); });
  folder.write("deep",
               "{\"step\":1,\"kind\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}\n");
  const TruncatedMetrics moved = truncate_metrics(deep.string(), {}, 1);
  CHECK(moved.damaged == 1);
  CHECK_THAT(moved.first_damage, foretoken::testing::contains("nested deeper than 64 levels"));
}

TEST_CASE("a metrics file without a valid line is moved away") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "metrics.jsonl";
  folder.write("metrics.jsonl", "[1,2]\nnull\n{\"step\":\"1\"}\n{\"step\":1.5}\n\xff\xfe\n{\"step\":1}\n");
  CHECK(truncate_metrics(path.string(), {}, 1).damaged == 5);
  CHECK(read(path) == "{\"step\":1}\n");
}
