// foretoken doctor: the measurements that several ranks make together.
#include <cmath>

#include <fmt/format.h>

#include "launch/doctor/measure.h"
#include "launch/session/agreement.h"
#include "parallel/comm/link_rates.h"
#include "tests/support/multi_rank.h"
#include "tests/support/temporary_folder.h"

using namespace foretoken;

TEST_CASE("ranks that have different folders under the run's path do not see rank 0's file", "[ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  const TemporaryFolder own;  // of this rank alone
  const std::string of_root = broadcast_text(world, own.path().string());

  const FolderFacts same = measure_folder(of_root, world);
  CHECK(same.problem.empty());
  CHECK(same.shared);
  CHECK(same.write_rate > 0);
  CHECK(same.hard_links);
  CHECK(same.locks);

  const FolderFacts different = measure_folder(own.path(), world);
  CHECK(different.problem.empty());
  CHECK(different.shared == (world.rank() == 0));

  world.barrier();
  CHECK(files_in(own.path()) == 0);
}

TEST_CASE("a run folder that does not exist is replaced by its parent on all ranks", "[ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  const TemporaryFolder own;
  const std::string of_root = broadcast_text(world, own.path().string());
  // Rank 1 has the folder that rank 0 lacks: both must look at the same place.
  const FolderFacts facts = measure_folder(of_root + "/runs/first/", world);
  CHECK(facts.path == of_root);
  CHECK(facts.shared);
}

TEST_CASE("every rank reports that its folder cannot be written", "[ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  const FolderFacts facts = measure_folder("/proc/first", world);
  CHECK_THAT(facts.problem, testing::contains("/proc"));
  CHECK_FALSE(facts.shared);
  const TemporaryFolder own;
  own.write("file", "");
  const FolderFacts file = measure_folder(own.path() / "file", world);
  CHECK_THAT(file.problem, testing::contains("/file is not a folder"));
}

TEST_CASE("the link to the next rank is measured on every rank but the last", "[ranks2][ranks4]") {
  MpiCommunicator& world = multi_rank::world();
  Device device({});
  Groups groups = make_groups(world, {.pp = world.size()}, device.stream());
  RankFacts facts;
  measure_links(groups, device.stream(), facts);
  const bool last = world.rank() + 1 == world.size();
  CHECK(facts.next_rank == (last ? -1 : world.rank() + 1));
  CHECK((facts.next.latency > 0) == !last);
  CHECK(std::isfinite(facts.next.bandwidth) == !last);
  REQUIRE(facts.groups.size() == 1);
  CHECK(facts.groups[0].ranks.size() == static_cast<std::size_t>(world.rank() == 0 ? world.size() : 0));
  CHECK(facts.groups[0].rate.bandwidth > 0);
}

TEST_CASE("a rank's clock on the same host agrees with that of rank 0", "[ranks2]") {
  const ClockOffset offset = measure_clock_offset(multi_rank::world(), 1);
  CHECK(offset.uncertainty > 0);
  CHECK(std::abs(offset.seconds) <= offset.uncertainty + 1e-6);
}
