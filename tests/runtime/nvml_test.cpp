// The state of GPUs, read from a library that stands in for NVIDIA's.
#include "runtime/host/nvml.h"

#include <dlfcn.h>

#include "tests/support/catch.h"

using namespace foretoken;

TEST_CASE("the state of a GPU is what NVML reports, and empty where the GPU supports nothing") {
  // A library that is loaded already is found by its name.
  REQUIRE(dlopen(FAKE_NVML_LIBRARY, RTLD_NOW) != nullptr);
  const Nvml nvml;
  REQUIRE(nvml.problem().empty());
  CHECK(nvml.driver_version() == "550.54.15");
  CHECK(nvml.gpus() == 2);

  const auto gpu = nvml.state("0000:1b:00.0");
  REQUIRE(gpu);
  CHECK(gpu->ecc == true);
  CHECK(gpu->corrected_errors == 12);
  CHECK(gpu->uncorrected_errors == 2);
  CHECK(gpu->remapping_pending == true);
  CHECK(gpu->remapping_failed == false);
  CHECK(gpu->clock == 1755);
  CHECK(gpu->highest_clock == 1980);
  CHECK(gpu->memory_clock == 2619);
  CHECK(gpu->power == Approx(650.5));
  CHECK(gpu->power_limit == Approx(600));
  CHECK(gpu->default_power_limit == Approx(700));
  CHECK(gpu->temperature == 71);
  CHECK(gpu->throttle_reasons ==
        std::vector<std::string>{"power cap", "hardware slowdown", "hardware slowdown for temperature"});

  const auto old = nvml.state("0000:43:00.0");
  REQUIRE(old);
  CHECK_FALSE(old->ecc);
  CHECK_FALSE(old->uncorrected_errors);
  CHECK_FALSE(old->remapping_pending);
  CHECK_FALSE(old->clock);
  CHECK_FALSE(old->power_limit);
  CHECK(old->temperature == 71);
  CHECK(old->throttle_reasons.empty());
  CHECK_FALSE(nvml.state("0000:99:00.0"));
}
