// Fuzzes a configuration file: parses it, writes it back, cross-checks it and assigns its layers to stages.
#include <cstdlib>

#include "launch/config/config_loader.h"
#include "launch/config/config_validator.h"
#include "launch/config/layout.h"
#include "tests/fuzz/scratch_file.h"

using namespace foretoken;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::expect_an_answer([&] {
    Config config;
    apply_toml_file(config, fuzz::scratch_file({reinterpret_cast<const char*>(data), size}));
    Config again;
    apply_toml(again, to_toml(config), "again.toml");
    if (to_toml(again) != to_toml(config)) std::abort();
    validate(config);
    const std::int64_t ranks = std::int64_t{config.parallel.pp} * std::max(1, config.parallel.dp);
    if (ranks > 4096) return;
    const Grid grid = resolve_grid(config, static_cast<int>(ranks));
    if (config.model.num_hidden_layers <= 64) resolve_layout(config, grid, Purpose::evaluate);
  });
  return 0;
}
