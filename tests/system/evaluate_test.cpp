// foretoken evaluate as a user runs it.

#include <fstream>
#include <limits>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "io/checkpoint/checkpoint_reader.h"
#include "io/checkpoint/checkpoint_writer.h"
#include "tests/support/catch.h"
#include "tests/system/program.h"

using namespace foretoken;
using namespace foretoken::testing;

TEST_CASE("evaluate prints a table, and its metrics line is the same in every layout") {
  const TemporaryFolder folder;
  const std::string run_path = (folder / "run").string(), file = (folder / "metrics.jsonl").string();
  const Outcome trained =
      run(fmt::format("{} {} --run-directory {} --set train.steps=60 --set optimizer.lr=0.02", program(),
                      small_training(folder), run_path));
  INFO(trained.output);
  REQUIRE(trained.code == 0);
  const std::string evaluate =
      fmt::format("evaluate {} --data {} --rows 100 ", run_path, (folder / "data.h5").string());
  for (const std::string& command : {program() + " " + evaluate, program_on(2) + " " + evaluate,
                                     program_on(2) + " " + evaluate + "--set parallel.pp=2 "}) {
    const Outcome outcome = run(command + "--metrics " + file);
    INFO(outcome.output);
    REQUIRE(outcome.code == 0);
    CHECK_THAT(outcome.output, contains("  teacher-forced  free-running\nmain ") && contains("\nmtp2 ") &&
                                   contains("\nbits/byte  ") && contains(" after 64 prompts, "));
  }
  std::vector<nlohmann::json> lines;
  std::ifstream metrics(file);
  for (std::string line; std::getline(metrics, line);) lines.push_back(nlohmann::json::parse(line));
  REQUIRE(lines.size() == 3);
  CHECK(lines[0]["free_mtp1_acceptance"] > 0.1);
  for (const nlohmann::json& line : lines) {
    for (const char* key : {"tokens", "bytes", "free_tokens", "free_rounds", "free_mtp1_acceptance",
                            "free_mtp2_acceptance", "free_accepted_length"})
      CHECK(line[key] == lines[0][key]);
    CHECK(line["bits_per_byte"].get<double>() ==
          Approx(lines[0]["bits_per_byte"].get<double>()).epsilon(1e-5));
  }

  const Outcome without = run(program() + " " + evaluate + "--free-running 0");
  CHECK(without.code == 0);
  CHECK(without.output.find("free-running") == std::string::npos);
  const Outcome refused = run(program() + " " + evaluate + "--metrics /nowhere/m.jsonl");
  CHECK(refused.code == 3);
  CHECK_THAT(refused.output, contains("metrics: /nowhere/m.jsonl: cannot be opened"));
  const Outcome full = run(program() + " " + evaluate + "--free-running 0 --metrics /dev/full");
  CHECK(full.code == 3);
  CHECK_THAT(full.output, contains("metrics: /dev/full: cannot be written: No space left on device"));
}

TEST_CASE("evaluate and generate with a NaN weight end with code 4") {
  const TemporaryFolder folder;
  const std::string run_path = (folder / "run").string(), file = (folder / "metrics.jsonl").string();
  REQUIRE(
      run(fmt::format("{} {} --run-directory {} --stop-after 4", program(), small_training(folder), run_path))
          .code == 75);
  // Training never saves such a state, so the test writes it.
  const Checkpoint intact = Checkpoint::open(run_path + "/checkpoints/step_00000004");
  std::vector<std::vector<float>> values;
  std::vector<CheckpointPiece> pieces;
  for (const PieceRecord& record : intact.manifest().pieces) {
    std::vector<float>& data = values.emplace_back(static_cast<std::size_t>(record.range.size()));
    const Tensor tensor = tensor_over(std::span(data), {record.range.size()});
    intact.read(record.kind, record.tensor, record.range, tensor);
    if (record.kind == "model" && record.tensor == "model.norm.weight")
      data[3] = std::numeric_limits<float>::quiet_NaN();
    pieces.push_back({record.kind, record.tensor, record.shape, record.range, tensor});
  }
  CheckpointInfo info = intact.info();
  info.step = 5;
  CheckpointWriter writer(run_path + "/checkpoints", 0, 1);
  writer.save(info, pieces, {});
  writer.finish();

  for (const std::string& command : {program(), program_on(2)}) {
    const Outcome evaluated = run(fmt::format("{} evaluate {} --data {} --rows 20 --metrics {}", command,
                                              run_path, (folder / "data.h5").string(), file));
    INFO(evaluated.output);
    CHECK(evaluated.code == 4);
    CHECK_THAT(evaluated.output, contains("at step 5: the loss is") && contains("nan"));
    CHECK(evaluated.output.find("accept") == std::string::npos);
  }
  CHECK(std::ifstream(file).peek() == std::ifstream::traits_type::eof());
  const Outcome generated = run(fmt::format("{} generate {} --prompt line", program(), run_path));
  INFO(generated.output);
  CHECK(generated.code == 4);
}
