// foretoken study as a user runs it: points under mpirun, one that fails, and one that is interrupted.

#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include <fmt/format.h>

#include "tests/support/catch.h"
#include "tests/support/models/training_lab.h"
#include "tests/support/xml.h"
#include "tests/system/program.h"

using namespace foretoken;
using namespace foretoken::testing;

namespace {

std::string read(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

/// The rows of a CSV file, keyed by their first field. Every row must have as many fields as the header.
std::map<std::string, std::map<std::string, std::string>> rows_of(const std::filesystem::path& path) {
  std::vector<std::vector<std::string>> lines(1, {""});
  bool quoted = false;
  for (const char c : read(path)) {
    if (c == '"')
      quoted = !quoted;
    else if (c == ',' && !quoted)
      lines.back().emplace_back();
    else if (c == '\n' && !quoted)
      lines.push_back({""});
    else
      lines.back().back() += c;
  }
  lines.pop_back();
  std::map<std::string, std::map<std::string, std::string>> rows;
  for (std::size_t i = 1; i < lines.size(); ++i) {
    REQUIRE(lines[i].size() == lines[0].size());
    for (std::size_t k = 0; k < lines[i].size(); ++k) rows[lines[i][0]][lines[0][k]] = lines[i][k];
  }
  return rows;
}

std::string study_command(const TemporaryFolder& folder) {
  program_on(1);  // sets the variables that let mpirun run as root
  small_training(folder);
  return fmt::format("{} study {}", program(), (folder / "sweep.toml").string());
}

std::string head(const TemporaryFolder& folder) {
  return fmt::format(
      "[study]\nbase = \"train.toml\"\nranks = 2\ndirectory = \"{}\"\n"
      "launcher = \"mpirun -n {{ranks}} --oversubscribe --bind-to none\"\n",
      (folder / "study").string());
}

}  // namespace

TEST_CASE(
    "a study runs its points, reports one that fails, and on a second start runs only unfinished points") {
  const TemporaryFolder folder;
  const std::string command = study_command(folder);
  const std::string data = (folder / "data.h5").string(), later = (folder / "later.h5").string();
  folder.write("sweep.toml", head(folder) + fmt::format(R"(
[data]
validation_path = "{}"

[train]
steps = 12
evaluate_every = 4
evaluate_rows = 8

[[points]]
name = "no heads"
ranks = 1
mtp.depths = 0

[[points]]
name = "no data"
ranks = 1
data.path = "{}"

[[points]]
name = "two, in a pipeline"
parallel.pp = 2
)",
                                                        data, later));
  const Outcome first = run(command);
  INFO(first.output);
  CHECK(first.code == 3);
  CHECK_THAT(first.output, contains("point 2/3  no data: failed with code 3") && contains("later.h5") &&
                               contains("point 3/3  two, in a pipeline: done") && contains("2 of 3 points"));

  const auto rows = rows_of(folder / "study/study.csv");
  REQUIRE(rows.size() == 3);
  const auto& none = rows.at("no heads");
  const auto& two = rows.at("two, in a pipeline");
  CHECK(none.at("status") == "done");
  CHECK(none.at("exit_code") == "0");
  CHECK(none.at("mtp.depths") == "0");
  CHECK(none.at("ranks") == "1");
  CHECK(none.at("tokens") == "1536");  // 12 steps of 8 rows of 16
  CHECK(none.at("final_mtp1_loss").empty());
  CHECK(two.at("parallel.pp") == "2");
  CHECK(two.at("ranks") == "2");
  CHECK(rows.at("no data").at("status") == "failed (3)");
  CHECK(rows.at("no data").at("steps") == "0");
  for (const auto* row : {&none, &two}) {
    CHECK(std::stod(row->at("final_main_loss")) > 3);
    CHECK(std::stod(row->at("final_main_loss")) < 6);
    CHECK(std::stod(row->at("best_main_loss")) <= std::stod(row->at("final_main_loss")));
    CHECK(std::stod(row->at("tokens_per_second")) > 0);
    CHECK(std::stod(row->at("peak_memory_bytes")) > 1e6);
    CHECK(std::stod(row->at("seconds")) > 0);
  }
  CHECK(std::stol(two.at("parameters")) > std::stol(none.at("parameters")));
  CHECK(std::stod(two.at("final_mtp2_loss")) > 3);

  const std::string page = read(folder / "study/study.html");
  CHECK(xml_error(page) == "");
  CHECK_THAT(page, contains("two, in a pipeline") && contains("failed (3)") && !contains("<script"));
  CHECK_THAT(page, !contains("src=") && !contains("href="));  // no external resources
  int figures = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder / "study/figures")) {
    const std::string svg = read(file.path());
    INFO(file.path());
    CHECK(xml_error(svg) == "");
    CHECK(page.find(svg) != std::string::npos);
    ++figures;
  }
  CHECK(figures >= 9);

  std::filesystem::copy_file(data, later);
  const std::filesystem::path metrics = folder / "study/two, in a pipeline/run/metrics.jsonl";
  std::filesystem::resize_file(metrics, std::filesystem::file_size(metrics) - 20);
  const Outcome second = run(command);
  INFO(second.output);
  CHECK(second.code == 0);
  CHECK_THAT(second.output, contains("point \"two, in a pipeline\": metrics.jsonl ends inside a line"));
  CHECK_THAT(second.output, contains("no heads: already done") && contains("no data: done in") &&
                                contains("two, in a pipeline: already done"));
  CHECK(rows_of(folder / "study/study.csv").at("no data").at("status") == "done");

  const Outcome launcher = run(command + " --launcher 'mpirun -n 2'");
  CHECK(launcher.code == 2);
  CHECK_THAT(launcher.output, contains("launcher \"mpirun -n 2\" does not contain {ranks}"));
  const Outcome changed = run(command + " --set train.seed=2");
  CHECK(changed.code == 2);
  CHECK_THAT(changed.output, contains("point \"no heads\" has run with train.seed 1, found 2"));
}

TEST_CASE("an interrupted study stops with a checkpoint and continues from it") {
  const TemporaryFolder folder;
  const std::string command = study_command(folder);
  folder.write("sweep.toml", head(folder) + "[train]\nsteps = 1500\n[axes]\nmtp.depths = [1, 0]\n");
  const std::filesystem::path metrics = folder / "study/depths=1/run/metrics.jsonl";
  Process process("bash -c '" + command + "; exit $?'");
  REQUIRE(wait_until([&] { return read(metrics).find("\"step\":20,") != std::string::npos; }));
  const std::vector<pid_t> studies = process.children("foretoken");
  REQUIRE(studies.size() == 1);
  const Outcome busy = run(command);
  CHECK(busy.code == 2);
  CHECK_THAT(busy.output, contains("in use by pid "));
  kill(studies.front(), SIGTERM);
  const Outcome stopped = process.wait();
  INFO(stopped.output);
  CHECK(stopped.code == 75);
  CHECK_THAT(stopped.output, contains("depths=1: stopped") && contains("0 of 2 points"));
  CHECK(rows_of(folder / "study/study.csv").at("depths=1").at("status") == "stopped");
  CHECK(rows_of(folder / "study/study.csv").at("depths=0").at("status") == "not run");

  const Outcome whole = run(command);
  INFO(whole.output);
  CHECK(whole.code == 0);
  CHECK_THAT(whole.output, contains("depths=1: resumes on 2 ranks") && contains("2 of 2 points"));
  CHECK(TrainingLab::losses((folder / "study/depths=1/run").string()).size() == 1500);
  CHECK(rows_of(folder / "study/study.csv").at("depths=1").at("steps") == "1500");
}
