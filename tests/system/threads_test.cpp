// The number of threads that a rank starts.

#include <sched.h>

#include <fmt/format.h>

#include "tests/support/catch.h"
#include "tests/system/program.h"

using namespace foretoken::testing;

TEST_CASE("a rank starts no more threads than the cores that it may use") {
  const foretoken::TemporaryFolder folder;
  cpu_set_t cores;
  REQUIRE(sched_getaffinity(0, sizeof cores, &cores) == 0);
  int core = 0;
  while (!CPU_ISSET(core, &cores)) ++core;
  const std::string arguments = " " + small_training(folder) +
                                " --set parallel.threads=0 --set train.steps=2 --run-directory " +
                                (folder / "run").string();
  const Outcome bound = run(fmt::format("taskset -c {} {}{}1", core, program(), arguments)),
                free = run(program() + arguments + "2");
  INFO(bound.output << free.output);
  CHECK_THAT(bound.output, contains("1 rank with 1 thread\n"));
  CHECK_THAT(free.output, contains(fmt::format("1 rank with {} thread", CPU_COUNT(&cores))));
}
