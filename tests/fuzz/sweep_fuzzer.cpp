// Fuzzes read_sweep() with the input as the file of a study.
#include "launch/study/sweep.h"
#include "tests/fuzz/scratch_file.h"

using namespace foretoken;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::expect_an_answer([&] {
    read_sweep(fuzz::scratch_file({reinterpret_cast<const char*>(data), size}), {},
               [](const ScalingStudy&, const Config& config, int) { return config; });
  });
  return 0;
}
