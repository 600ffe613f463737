// Available memory, read from the files of a synthetic root directory.
#include "runtime/host/memory_limit.h"

#include "runtime/arena.h"
#include "tests/support/catch.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;

TEST_CASE("the tightest of machine and control groups is what is left") {
  const TemporaryFolder root;
  CHECK_FALSE(available_memory(root.path()));
  root.write("proc/meminfo", "MemTotal:       8000000 kB\nMemAvailable:   4000000 kB\n");
  CHECK(available_memory(root.path())->available == 4'096'000'000);
  root.write("proc/self/cgroup", "0::/jobs/step\n");
  root.write("sys/fs/cgroup/jobs/memory.max", "3000000000\n");
  root.write("sys/fs/cgroup/jobs/memory.current", "1500000000\n");
  root.write("sys/fs/cgroup/jobs/memory.stat", "anon 900000000\ninactive_file 500000000\n");
  root.write("sys/fs/cgroup/jobs/step/memory.max", "max\n");
  root.write("sys/fs/cgroup/jobs/step/memory.current", "1\n");
  const MemoryLimit left = *available_memory(root.path());
  CHECK(left.available == 2'000'000'000);
  CHECK(left.source == "its control group");
  root.write("proc/self/cgroup", "7:cpu,memory:/old\n0::/\n");
  root.write("sys/fs/cgroup/memory/old/memory.limit_in_bytes", "1000000000\n");
  root.write("sys/fs/cgroup/memory/old/memory.usage_in_bytes", "2000000000\n");
  CHECK(available_memory(root.path())->available == 0);
}

TEST_CASE("memory that the machine does not have is refused with both figures before it is taken") {
  const MemoryLimit limit{2'100'000'000, "its control group"};
  CHECK_NOTHROW(require_memory(2'100'000'000, "model", limit));
  expect_error<UsageError>("model: needs 34.4 GB of memory, but its control group has 2.1 GB left",
                           [&] { require_memory(34'400'000'000, "model", limit); });
  Arena arena(DeviceKind::cpu);
  expect_error<UsageError>("memory plan: needs", [&] { arena.tensor(DType::u8, {std::int64_t{1} << 50}); });
}
