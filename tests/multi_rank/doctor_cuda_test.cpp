// foretoken doctor on GPUs.
#include <cmath>

#include "launch/doctor/measure.h"
#include "tests/multi_rank/gpu.h"

using namespace foretoken;

TEST_CASE("a GPU is measured under load, with the state that NVML reports", "[gpu][ranks1][ranks2]") {
  Device device(multi_rank::own_gpu());
  const Nvml nvml;
  INFO(nvml.problem());
  REQUIRE(nvml.problem().empty());
  const DeviceFacts facts = measure_device(device, nvml, multi_rank::world());
  CHECK(facts.matrix_rate > 1e13);
  CHECK(facts.memory_bandwidth > 1e11);
  CHECK(facts.machine_gpus >= facts.visible_gpus);
  REQUIRE(facts.state);
  CHECK(facts.state->clock.value_or(0) > 0);
  CHECK(facts.state->power_limit.value_or(0) > 0);
  CHECK(facts.state->temperature.value_or(0) > 0);
}

TEST_CASE("the link to the next rank is measured between GPUs", "[gpu][ranks2]") {
  MpiCommunicator& world = multi_rank::world();
  Device device(multi_rank::own_gpu());
  Groups groups = make_groups(world, {.pp = 2}, device.stream());
  RankFacts facts;
  measure_links(groups, device.stream(), facts);
  CHECK(facts.next_rank == (world.rank() == 0 ? 1 : -1));
  CHECK((facts.next.latency > 0) == (world.rank() == 0));
  CHECK(std::isfinite(facts.next.bandwidth) == (world.rank() == 0));
  CHECK(facts.next.bandwidth > 1e8);
  REQUIRE(facts.groups.size() == 1);
  CHECK(facts.groups[0].rate.bandwidth > 1e8);
}
