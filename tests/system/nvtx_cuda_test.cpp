// metrics.nvtx, which marks the parts of a step for profilers. Needs a build with CUDA, but no GPU.

#include <fstream>
#include <iterator>

#include <fmt/format.h>

#include "tests/support/catch.h"
#include "tests/system/program.h"

using namespace foretoken::testing;

TEST_CASE("metrics.nvtx names the actions and the other parts of a step, and closes every range") {
  const foretoken::TemporaryFolder folder;
  const std::string record = (folder / "ranges").string();
  const Outcome outcome = run(fmt::format(
      "env NVTX_INJECTION64_PATH={} NVTX_RECORD={} {} {} --set parallel.pp=1 --set train.steps=2 "
      "--set metrics.nvtx=true --run-directory {}",
      NVTX_RECORDER_LIBRARY, record, program(), small_training(folder), (folder / "run").string()));
  INFO(outcome.output);
  REQUIRE(outcome.code == 0);
  std::ifstream file(record);
  const std::string ranges = "\n" + std::string{std::istreambuf_iterator<char>(file), {}};
  for (const char* line : {"2 0F0", "2 0B0", "2 reduce", "2 gradient norm", "2 optimizer"})
    CHECK_THAT(ranges, contains(fmt::format("\n{}\n", line)));
  CHECK_THAT(ranges, contains("\nopen 0\n"));
}
