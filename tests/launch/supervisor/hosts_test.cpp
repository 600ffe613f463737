#include "launch/supervisor/hosts.h"

#include <cstdlib>
#include <filesystem>

#include "launch/supervisor/launcher.h"
#include "runtime/error.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;

TEST_CASE("a hostfile lists hosts with slots, and the slots of a host listed twice are added") {
  const TemporaryFolder folder;
  const auto path =
      folder.write("hosts", "# the cluster\nn1 slots=4\n\nn2\nn1 slots=2 max_slots=8  # again\n");
  CHECK(read_hostfile(path.string()) == std::vector<Host>{{"n1", 6}, {"n2", 1}});
  CHECK(host_list(read_hostfile(path.string())) == "n1:6,n2:1");
  CHECK(slots_of(read_hostfile(path.string())) == 7);
}

TEST_CASE("a hostfile that is missing, empty or wrong is an error that names the place") {
  const TemporaryFolder folder;
  for (const char* line : {"n1 slots=0", "n1 slots=x", "n1 cores=4", "n1 slots=99999999999"}) {
    const auto path = folder.write("hosts", std::string("n0\n") + line + "\n");
    INFO(line);
    CHECK_THROWS_AS(read_hostfile(path.string()), UsageError);
    CHECK_THROWS_WITH(
        read_hostfile(path.string()),
        Catch::Matchers::StartsWith("hostfile: expected slots=N") && Catch::Matchers::EndsWith("hosts:2)"));
  }
  CHECK_THROWS_AS(read_hostfile(folder.write("none", "# nobody\n").string()), UsageError);
  CHECK_THROWS_AS(read_hostfile((folder / "missing").string()), UsageError);
}

TEST_CASE("hosts that the remote shell does not reach in time are left out, and this host is not checked") {
  const TemporaryFolder folder;
  const auto shell = folder.write("shell", "#!/bin/sh\ncase $1 in dead) exit 255;; slow) sleep 5;; esac\n");
  std::filesystem::permissions(shell, std::filesystem::perms::owner_all);
  setenv("OMPI_MCA_plm_rsh_agent", shell.c_str(), 1);
  const auto found =
      reachable({{"n1", 2}, {"dead", 2}, {"slow", 2}, {"localhost", 2}}, std::chrono::seconds(1));
  setenv("OMPI_MCA_plm_rsh_agent", "false", 1);
  const auto own = reachable({{"n1", 2}, {"127.0.0.1", 2}});
  unsetenv("OMPI_MCA_plm_rsh_agent");
  CHECK(found == std::vector<Host>{{"n1", 2}, {"localhost", 2}});
  CHECK(own == std::vector<Host>{{"127.0.0.1", 2}});
}

TEST_CASE("Slurm's tasks per node are parsed, and text of another form gives an empty list") {
  CHECK(tasks_per_node("2(x3),1") == std::vector<int>{2, 2, 2, 1});
  CHECK(tasks_per_node("8") == std::vector<int>{8});
  for (const char* text : {"", "2(x", "2(y3)", "x", "0", "2(x0)", "2(x99999999999)"})
    CHECK(tasks_per_node(text).empty());
}

TEST_CASE("a node that is down, failing or silent cannot run ranks, a drained node can") {
  for (const char* state : {"allocated", "mixed", "idle", "completing", "draining", "reserved"})
    CHECK(is_up(state));
  for (const char* state :
       {"down", "down*", "allocated*", "idle*", "fail", "error", "unknown", "powered_down", ""})
    CHECK_FALSE(is_up(state));
}

TEST_CASE("on_hosts() adds the host option of mpirun or srun") {
  const std::vector<Host> hosts{{"a", 2}, {"b", 4}};
  CHECK(on_hosts("mpirun --map-by slot", hosts) == "mpirun --map-by slot --host a:2,b:4");
  CHECK(on_hosts("srun --mpi=pmix", hosts) == "srun --mpi=pmix --nodes=2 --nodelist=a,b");
}
