#include "launch/training/launch_command.h"

#include "tests/support/catch.h"

using namespace foretoken;

namespace {

const Words own{"bin/foretoken", "train", "a b.toml"};

Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace

TEST_CASE("commands repeat the words with which mpirun started the ranks") {
  const LaunchCommand command =
      launch_command({.own = own,
                      .ancestors = {Words{"bash", "wrapper.sh"} + own,
                                    Words{"/usr/bin/mpirun", "--hostfile", "my hosts", "-n", "4"} + own},
                      .ranks = 4});
  CHECK(command.ranks == "/usr/bin/mpirun --hostfile 'my hosts' -n 4");
  CHECK(command.on_ranks("evaluate runs/first") ==
        "/usr/bin/mpirun --hostfile 'my hosts' -n 4 bin/foretoken evaluate runs/first");
  CHECK(command.on_one("generate runs/first") == "bin/foretoken generate runs/first");
  CHECK(command.supervisor.empty());
}

TEST_CASE("commands have as flags the settings of mpirun's environment, each once") {
  const LaunchSurroundings surroundings{.own = own,
                                        .ancestors = {Words{"mpirun", "-n", "4", "--bind-to", "none"} + own},
                                        .ranks = 4,
                                        .root = true,
                                        .oversubscribes = true};
  CHECK(launch_command(surroundings).ranks ==
        "mpirun -n 4 --bind-to none --allow-run-as-root --oversubscribe");
}

TEST_CASE("commands name a launcher also if its command line cannot be read") {
  CHECK(launch_command({.own = own, .ancestors = {Words{"orted"}}, .ranks = 3}).ranks == "mpirun -n 3");
  CHECK(launch_command({.own = own, .ancestors = {Words{"slurmstepd"}}, .ranks = 3, .slurm_step = true})
            .ranks == "srun --mpi=pmix -n 3");
  CHECK(launch_command({.own = own, .ancestors = {Words{"bash"}}, .ranks = 1}).on_ranks("x") ==
        "bin/foretoken x");
  // mpirun started several programs.
  CHECK(launch_command(
            {.own = own, .ancestors = {Words{"mpirun", "-n", "1"} + own + Words{":", "b"}}, .ranks = 2})
            .ranks == "mpirun -n 2");
}

TEST_CASE("a run under foretoken run is continued by that command") {
  const Words supervisor{"foretoken", "run", "a b.toml", "-n", "2"};
  const LaunchCommand command = launch_command(
      {.own = own, .ancestors = {Words{"mpirun", "-n", "2"} + own, supervisor, Words{"bash"}}, .ranks = 2});
  CHECK(command.supervisor == "foretoken run 'a b.toml' -n 2");
}
