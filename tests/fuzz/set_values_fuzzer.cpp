// Fuzzes --set: each line of the input is one flag's value.
#include <string>
#include <vector>

#include "launch/config/config_loader.h"
#include "launch/config/config_validator.h"
#include "tests/fuzz/scratch_file.h"

using namespace foretoken;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::string> sets(1);
  for (std::size_t i = 0; i < size; ++i) {
    if (data[i] == '\n')
      sets.emplace_back();
    else
      sets.back() += static_cast<char>(data[i]);
  }
  fuzz::expect_an_answer([&] {
    Config config;
    apply_sets(config, sets);
    validate(config);
  });
  return 0;
}
